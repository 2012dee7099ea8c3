"""One file a kind of encoder: where its features come from, what is explained, and where its heads lie."""
