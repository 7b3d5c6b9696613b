// Consul, built from its own module by its version: this package only makes the module graph name it.
package main

import _ "github.com/hashicorp/consul/command"

func main() {}
