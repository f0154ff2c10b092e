"""Attacks on classifiers of images, through kept packages."""
