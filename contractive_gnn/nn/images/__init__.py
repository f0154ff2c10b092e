"""Models of images: classifiers and denoisers."""
