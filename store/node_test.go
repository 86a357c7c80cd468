package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
)

// victimNode is a whole node with a database, on an address given, for a test
// that kills it.
func victimNode(dir, addr string) {
	db, err := Open(dir, Options{NoSync: true})
	var node *hyperdht.Node
	if err == nil {
		node, err = hyperdht.Bootstrapper(netip.MustParseAddrPort(addr), hyperdht.Config{Host: netip.MustParseAddr("127.0.0.1"), Store: db})
	}
	if err == nil {
		err = node.Ready(context.Background()) // before, it is not persistent and stores nothing
	}
	if err != nil {
		fmt.Println("error", err)
		return
	}
	fmt.Println("ready")
	select {}
}

// The issue: "a node killed with SIGKILL at any moment comes back with every
// record that it had acknowledged".
func TestNodeKilledAtAnyMoment(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	dir, addr := t.TempDir(), "127.0.0.1:"+freePort(t)
	client, err := hyperdht.New(hyperdht.Config{Host: netip.MustParseAddr("127.0.0.1"), AnyPort: true, Bootstrap: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := t.Context()
	key := hyperdht.SignerOf(hyperdht.KeyPairFromSeed([32]byte{1}))
	public := hyperdht.KeyPairFromSeed([32]byte{1}).Public
	var acked []hyperdht.Target
	seq := uint64(0) // the last one acknowledged
	value := func(i int) []byte { return fmt.Appendf(nil, "value %d", i) }
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "WARREN_STORE_VICTIM="+dir, "WARREN_STORE_NODE="+addr)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() || lines.Text() != "ready" {
			t.Fatalf("round %d: the node says %q", round, lines.Text())
		}
		for i, target := range acked {
			if _, err := client.ImmutableGet(ctx, target); err != nil {
				t.Fatalf("round %d: record %d was acknowledged and is gone: %v", round, i, err)
			}
		}
		if seq > 0 {
			if r, err := client.MutableGet(ctx, public, hyperdht.GetOptions{}); err != nil || r.Seq < seq {
				t.Fatalf("round %d: seq %d was acknowledged, got %d, %v", round, seq, r.Seq, err)
			} else {
				seq = r.Seq // it may have stored one more than it could say
			}
		}
		killed := time.AfterFunc(time.Duration(20+rand.IntN(150))*time.Millisecond, func() { cmd.Process.Kill() })
		for {
			ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			i := len(acked) + 1000*round
			s, err := client.ImmutablePut(ctx, value(i), hyperdht.PutOptions{})
			if err == nil {
				acked = append(acked, s.Target)
				_, _, err = client.MutablePut(ctx, key, seq+1, value(i), hyperdht.PutOptions{})
			}
			cancel()
			if errors.Is(err, hyperdht.SeqReused) || errors.Is(err, hyperdht.SeqTooLow) {
				t.Fatalf("round %d: seq %d: %v", round, seq+1, err)
			}
			if err != nil {
				break
			}
			seq++
		}
		killed.Stop()
		cmd.Process.Kill()
		cmd.Wait()
	}
	if len(acked) < rounds || seq == 0 {
		t.Errorf("only %d records were acknowledged", len(acked))
	}
	t.Logf("%d records, seq %d", len(acked), seq)
}

func freePort(t *testing.T) string {
	t.Helper()
	n, err := hyperdht.New(hyperdht.Config{Host: netip.MustParseAddr("127.0.0.1"), AnyPort: true, Bootstrap: hyperdht.NoBootstrap})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	_, port, _ := strings.Cut(n.RPC().LocalAddr().String(), ":")
	return port
}
