"""demos shows: widgets over the public names of ssl_vc."""
