"""raysl: from how many of your own images on does self-supervised pretraining pay?"""

__version__ = "0.1.0"
