"""The process of one sink, as the governor starts it: see process.py."""

from backprop_sinks.process import main

if __name__ == "__main__":
    main()
