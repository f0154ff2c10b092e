"""Vector fields that declare their norm, their contraction rate and their largest contractive step."""
