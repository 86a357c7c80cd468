// Warren is the command line of the toolkit: it reaches machines by public key,
// runs nodes and whole test networks, and speaks to the HyperDHT, the BitTorrent
// DHT and networks of the first dht-rpc. docs/cli.md says what scripts may rely
// on.
//
// main.go and app.go are the frame: exit statuses, output, signals. parse.go and
// flags.go read what people type, so that it is refused before anything is
// sent. Every command has a file of its own.
package main

import (
	"context"
	"os"
)

func main() {
	ctx, stop := untilSignal(context.Background())
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	status := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}
