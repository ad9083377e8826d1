"""Networks from elsewhere: torch modules, exported programs, ONNX files.

Each front end writes a network down as a `Program` of torch operators; `lowering` turns any program into a `Graph`,
what has no counterpart into opaque operators; `units` says what runs together.
"""
