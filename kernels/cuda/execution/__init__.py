"""Programs on the GPU: bound to memory and streams, captured as a graph, run, timed, and told when each unit ran."""
