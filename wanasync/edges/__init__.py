"""Where wanasync touches the world: the network, the disk, the journal."""
