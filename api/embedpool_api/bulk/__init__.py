"""Files and batches as the HTTP edge sees them."""
