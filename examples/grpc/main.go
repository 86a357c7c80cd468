// Grpc calls a gRPC service by public key. The service is gRPC's own health
// check, which comes with generated code; one's own is registered likewise.
//
//	cd examples/grpc
//	go run . -serve                  # prints the key
//	go run . KEY                     # calls Check, then follows Watch
//	go run . -bootstrap 127.0.0.1:49737 ...
//
// The server gets a net.Listener, the client a dialer. Connections are encrypted
// end to end by key already, hence the "insecure" transport credentials; who
// calls is the peer's address in the call's context.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"github.com/warren-dht/warren/hyperdht"
)

// options are what the command line says.
type options struct {
	serve bool
	key   string // whom to call
}

func main() {
	log.SetFlags(0)
	var o options
	bootstrap := flag.String("bootstrap", "", "host:port,... of nodes to begin with (default: the public network)")
	flag.BoolVar(&o.serve, "serve", false, "be the service")
	flag.Parse()
	if o.key = flag.Arg(0); o.serve == (o.key != "") {
		log.Fatal("usage: grpc [flags] -serve, or grpc [flags] KEY")
	}
	var cfg hyperdht.Config
	if *bootstrap != "" {
		cfg.Bootstrap = strings.Split(*bootstrap, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, cfg, o); err != nil {
		log.Fatal(err)
	}
}

// run serves until the context ends, or calls.
func run(ctx context.Context, out io.Writer, cfg hyperdht.Config, o options) error {
	node, err := hyperdht.New(cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	if o.serve {
		return serve(ctx, out, node)
	}
	return call(ctx, out, node, o.key)
}

// serve serves on the node's key. When it is stopped it tells those who watch.
func serve(ctx context.Context, out io.Writer, node *hyperdht.Node) error {
	l, err := node.Listen(ctx, hyperdht.ListenConfig{})
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(
		func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if caller, ok := peer.FromContext(ctx); ok {
				fmt.Fprintf(out, "%.8s calls %s\n", caller.Addr.String(), info.FullMethod)
			}
			return next(ctx, req)
		}))
	state := health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, state)
	fmt.Fprintf(out, "serving at %v\n", l.PublicKey())
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	state.Shutdown()
	server.GracefulStop()
	return <-done
}

// call asks once, and then to be told of changes until the service ends.
func call(ctx context.Context, out io.Writer, node *hyperdht.Node, key string) error {
	conn, err := grpc.NewClient("passthrough:///"+key,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			key, err := hyperdht.ParsePublicKey(address)
			if err != nil {
				return nil, err
			}
			return node.Dial(ctx, key)
		}))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := grpc_health_v1.NewHealthClient(conn)
	answer, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "it is %v\n", answer.Status)
	watch, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	for {
		answer, err := watch.Recv()
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "now %v\n", answer.Status)
		if answer.Status == grpc_health_v1.HealthCheckResponse_NOT_SERVING {
			return nil
		}
	}
}
