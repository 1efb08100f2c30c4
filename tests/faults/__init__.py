"""What goes wrong around a batch: clocks, disks, lists, links, hosts, signals."""
