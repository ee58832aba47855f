"""Labels that an encoder learns to predict: clusters, phones, speakers."""
