"""Files that outlive a run: the object store in a folder or a bucket, the inbox, and Typst for PDFs."""
