"""ftkit: fine-tune pretrained text models on your own file, and know how good they are."""

__version__ = "0.1.0"
