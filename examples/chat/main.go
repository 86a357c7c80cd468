// Chat is a room without a server. Whoever is in it announces the room's topic
// and connects to all others who have; each line goes to every one of them.
//
//	go run ./examples/chat -name alice "my room"        # here
//	go run ./examples/chat -name bob "my room"          # and anywhere else
//	go run ./examples/chat -bootstrap 127.0.0.1:49737 -name carol "my room"
//
// Anybody who knows the room's name can enter. Lines are encrypted on their way,
// and each shows the key that has really sent it.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/warren-dht/warren/hyperdht"
)

const (
	maxLine  = 4096             // bytes of a line, name included
	maxPeers = 200              // in the room
	announce = 10 * time.Minute // nodes forget an announcement after 20
	search   = 30 * time.Second
	patience = 10 * time.Second // with a peer that does not read
)

// options are what the command line says.
type options struct {
	name, room string
}

func main() {
	log.SetFlags(0)
	var o options
	bootstrap := flag.String("bootstrap", "", "host:port,... of nodes to begin with (default: the public network)")
	flag.StringVar(&o.name, "name", "somebody", "what the others call us")
	flag.Parse()
	if o.room = flag.Arg(0); o.room == "" {
		log.Fatal("usage: chat [flags] ROOM")
	}
	var cfg hyperdht.Config
	if *bootstrap != "" {
		cfg.Bootstrap = strings.Split(*bootstrap, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdin, os.Stdout, cfg, o); err != nil {
		log.Fatal(err)
	}
}

// run is in the room until in or the context ends.
func run(ctx context.Context, in io.Reader, out io.Writer, cfg hyperdht.Config, o options) error {
	node, err := hyperdht.New(cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	l, err := node.Listen(ctx, hyperdht.ListenConfig{MaxConns: maxPeers, MaxPeerConns: 2})
	if err != nil {
		return err
	}
	// Two peers may dial each other at the same time: the pool keeps one of the
	// two connections, both ends the same.
	pool := node.NewPool(hyperdht.DialConfig{})
	defer pool.Close()
	go pool.Serve(l)

	r := &room{out: out, pool: pool, known: map[*hyperdht.Conn]bool{}}
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	topic := hyperdht.Hash([]byte("warren chat: " + o.room))
	go r.enter(ctx, node, l, topic)
	go func() {
		for {
			conn, err := pool.Accept(ctx)
			if err != nil {
				return
			}
			go r.listen(conn)
		}
	}()

	typed := make(chan string)
	go func() {
		defer close(typed)
		for s := bufio.NewScanner(in); s.Scan(); {
			select {
			case typed <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case line, ok := <-typed:
			if !ok {
				return unannounce(node, topic)
			}
			r.say(o.name + ": " + line)
		case <-ctx.Done():
			return unannounce(node, topic)
		}
	}
}

// unannounce leaves the room.
func unannounce(node *hyperdht.Node, topic hyperdht.Target) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := node.Unannounce(ctx, topic, hyperdht.SignerOf(node.KeyPair()), hyperdht.AnnounceOptions{})
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // they forget it by themselves
	}
	return err
}

// A room is the connections to its other visitors.
type room struct {
	pool *hyperdht.Pool

	mu    sync.Mutex
	out   io.Writer
	known map[*hyperdht.Conn]bool // connections that somebody listens to
}

// enter announces us, and connects to whoever has done so too, until the context
// ends.
func (r *room) enter(ctx context.Context, node *hyperdht.Node, l *hyperdht.Listener, topic hyperdht.Target) {
	var announced time.Time
	tick := time.NewTicker(search)
	defer tick.Stop()
	for {
		if time.Since(announced) > announce {
			// With our relays in it, those who find us need not look for them.
			o := hyperdht.AnnounceOptions{Relays: l.Relays()}
			if _, err := node.Announce(ctx, topic, hyperdht.SignerOf(node.KeyPair()), o); err == nil {
				announced = time.Now()
			}
		}
		found := map[hyperdht.PublicKey]bool{l.PublicKey(): true}
		for peer, err := range node.Lookup(ctx, topic) {
			if err != nil || len(found) >= maxPeers {
				break
			}
			if found[peer.PublicKey] {
				continue
			}
			found[peer.PublicKey] = true
			go func() {
				// The pool returns the connection that it has, or makes one.
				if conn, err := r.pool.Dial(ctx, peer.PublicKey); err == nil {
					r.listen(conn)
				}
			}()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// listen prints what a peer says, until it leaves.
func (r *room) listen(conn *hyperdht.Conn) {
	r.mu.Lock()
	known := r.known[conn]
	r.known[conn] = true
	r.mu.Unlock()
	if known {
		return
	}
	who := conn.RemotePublicKey().String()[:8]
	r.print("* %s is here", who)
	for {
		line, err := conn.ReadMessage()
		if err != nil || len(line) > maxLine {
			break
		}
		r.print("[%s] %s", who, printable(string(line)))
	}
	conn.Close()
	r.mu.Lock()
	delete(r.known, conn)
	r.mu.Unlock()
	r.print("* %s has left", who)
}

// say sends a line to everybody. A message of the stream keeps its boundaries,
// so lines need no framing of their own.
func (r *room) say(line string) {
	line = line[:min(len(line), maxLine)]
	for _, conn := range r.pool.Conns() {
		conn.SetWriteDeadline(time.Now().Add(patience))
		if err := conn.WriteMessage([]byte(line)); err != nil {
			conn.Close()
		}
	}
}

func (r *room) print(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, format+"\n", args...)
}

// printable takes out what would steer the terminal.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return -1
	}, s)
}
