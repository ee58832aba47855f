"""Frame labels that an encoder is trained to predict: k-means clusters, aligned phones, speakers."""
