// Command warrenbench plays warren's side of the benchmarks: each role that
// ../../README.md defines, with the flags and the output of the script of the
// same name in js/.
//
//	WARREN_BENCH=bin/warrenbench node run.mjs --sides js,warren
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// roles by their names. Each registers its flags, parses the arguments and
// runs until it is done or its input ends.
var roles = map[string]func(*flag.FlagSet, []string){
	"dhtrpc-node": dhtrpcNode,
	"dhtrpc-net":  dhtrpcNet,
	"hd-net":      hdNet,
	"hd-ops":      hdOps,
	"hd-server":   hdServer,
	"hd-client":   hdClient,
	"hd-node":     hdNode,
	"udx-server":  udxServer,
	"udx-client":  udxClient,
	"krpc-node":   krpcNode,
	"krpc-net":    krpcNet,
}

func main() {
	if len(os.Args) < 2 || roles[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: warrenbench ROLE [--flag value]...")
		fmt.Fprintln(os.Stderr, "roles:", strings.Join(slices.Sorted(maps.Keys(roles)), ", "))
		os.Exit(2)
	}
	role := os.Args[1]
	roles[role](flag.NewFlagSet(role, flag.ExitOnError), os.Args[2:])
}
