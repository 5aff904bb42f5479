"""`python -m pipeline` is `cxr-ssl`."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
