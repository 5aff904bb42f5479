"""The labelling page of `cxr-ssl annotate`: served on this machine, or as one file that opens without a server."""
