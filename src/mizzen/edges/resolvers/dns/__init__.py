"""DNS: addresses and SRV records, through dnspython where it is installed."""
