"""Region maps, fixed before training: superpixels, contours and hierarchies, their cache and job."""
