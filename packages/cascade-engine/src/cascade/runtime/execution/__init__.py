"""One run on either path: what belongs to it, where its calls are made, how they are cancelled."""
