"""`conntrackd-py explain`: why packets were refused."""
