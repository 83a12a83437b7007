// Command layers checks the import arrows and the forbidden calls of the Go code.
//
// The arrows point down only: capi -> core -> the leaves of core. A leaf (a folder directly below core) imports
// neither core nor another leaf, and one leaf alone knows fasthttp. The core is a library inside somebody else's
// process: it has no cgo, reads no environment, takes no signals, prints nothing and never ends the process.
//
// It reads the syntax trees only, so it needs no build, and exits with 1 when a rule is broken.
package main

import (
	"fmt"
	"os"
)

func main() {
	violations, err := check(os.DirFS("."))
	if err != nil {
		fmt.Fprintln(os.Stderr, "layers:", err)
		os.Exit(2)
	}
	for _, violation := range violations {
		fmt.Fprintln(os.Stderr, violation)
	}
	if len(violations) > 0 {
		os.Exit(1)
	}
}
