"""One section of the GPU check, for `check.run_check`."""

import sys

from iosfarm.farm.gpu_check.check import main

main(sys.argv[1:])
