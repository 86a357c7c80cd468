//go:build !race

package hyperdht

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"
)

// Environment of the server's process: the network's first node.
const weightServer = "WARREN_TEST_WEIGHT_SERVER"

// weight is what the process holds in memory after a collection, stacks
// included, in bytes.
func weight() int {
	runtime.GC()
	runtime.GC() // what the pools held goes with the second one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// TestConnectionWeight: an idle connection, and the goroutine that waits for it
// to say something, weighs at most 20 KB at the server and 35 KB at the client.
// The reference's take 37 and 64.
func TestConnectionWeight(t *testing.T) {
	if boot := os.Getenv(weightServer); boot != "" {
		serveWeight(t, boot)
		return
	}
	const conns = 1000
	boot := loopbackNetwork(t, 4)
	client := loopbackNode(t, Config{Bootstrap: boot})
	server := exec.Command(os.Args[0], "-test.run=^TestConnectionWeight$")
	server.Env = append(os.Environ(), weightServer+"="+boot[0])
	ask, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Wait()
	defer ask.Close()
	lines := bufio.NewScanner(answers)
	answer := func(v any) {
		t.Helper()
		if !lines.Scan() {
			t.Fatal("the server is gone")
		}
		if _, err := fmt.Sscan(lines.Text(), v); err != nil {
			t.Fatal(err)
		}
	}
	serverWeight := func() (n int) {
		fmt.Fprintln(ask)
		answer(&n)
		return n
	}
	var text string
	answer(&text)
	key, err := ParsePublicKey(text)
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var waiting sync.WaitGroup
	open := func() *Conn {
		c, err := client.Dial(ctx, key)
		if err != nil {
			t.Error(err)
			return nil
		}
		p := []byte{1}
		if _, err := c.Write(p); err != nil {
			t.Error(err)
		}
		if _, err := c.Read(p); err != nil {
			t.Error(err)
		}
		waiting.Go(func() { io.Copy(io.Discard, c) })
		return c
	}
	list := []*Conn{open()}
	atClient, atServer := weight(), serverWeight()
	var mu sync.Mutex
	var dialling sync.WaitGroup
	for range 20 {
		dialling.Go(func() {
			for range conns / 20 {
				c := open()
				mu.Lock()
				list = append(list, c)
				mu.Unlock()
			}
		})
	}
	dialling.Wait()
	if t.Failed() {
		return
	}
	atClient = (weight() - atClient) / conns
	atServer = (serverWeight() - atServer) / conns
	t.Logf("%d bytes a connection at the client, %d at the server", atClient, atServer)
	if atClient > 35_000 || atServer > 20_000 {
		t.Errorf("%d bytes a connection at the client, %d at the server", atClient, atServer)
	}
	for _, c := range list {
		c.Close()
	}
	waiting.Wait()
}

// serveWeight echoes, says its key, and, for each line that it is given, its
// weight.
func serveWeight(t *testing.T, boot string) {
	node := loopbackNode(t, Config{Bootstrap: []string{boot}, Firewalled: isFalse()})
	l, err := node.Listen(t.Context(), ListenConfig{MaxConns: -1, MaxPeerConns: -1})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	fmt.Println(l.PublicKey())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(weight())
	}
}
