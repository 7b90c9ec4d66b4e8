"""`python -m backprop` is the `backprop` command."""

import sys

if __name__ == "__main__":
    from backprop_cli.__main__ import main  # late: whoever imports the package does not want the command

    sys.exit(main())
