"""Networks of the Patch-seq system. Start with ``classifier.SubclassNetwork``."""
