// Prometheus, built from its own module by its version: this package only makes the module graph name it. Debian's has
// no consul_sd; ours has no other service discovery, since each brings a cloud's client with it.
package main

import _ "github.com/prometheus/prometheus/discovery/consul"

func main() {}
