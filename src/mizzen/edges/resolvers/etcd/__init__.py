"""etcd: keys under a lease, through its JSON gateway."""
