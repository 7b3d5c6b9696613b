// The API server of Kubernetes, built from its own module by its version: this package only makes the module graph name it.
package tools

import _ "k8s.io/kubernetes/cmd/kube-apiserver/app"
