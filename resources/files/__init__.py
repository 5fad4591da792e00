"""Files that outlive a run: the object store in a folder or a bucket, and PDF from Typst."""
