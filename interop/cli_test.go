//go:build interop

package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The command line on networks of both kinds of nodes (docs/cli.md): what one
// side stores, announces and listens on, the other one finds.
func TestCommandLine(t *testing.T) {
	program := filepath.Join(t.TempDir(), "warren")
	build := exec.Command("go", "build", "-o", program, "./cmd/warren")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	networks(t, func(t *testing.T, js *Peer, boot []string) {
		warren := func(stdin string, args ...string) []byte {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, program, append(args, "--json", "--host=127.0.0.1", "--bootstrap", strings.Join(boot, ","))...)
			cmd.Stdin = strings.NewReader(stdin)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("warren %q: %v\n%s", args, err, &errs)
			}
			return out
		}
		var peer Node
		js.Must("node", Args{"bootstrap": boot}, &peer)
		t.Run("records", func(t *testing.T) { cliRecords(t, js, peer, warren) })
		t.Run("topics", func(t *testing.T) { cliTopics(t, js, peer, warren) })
		t.Run("connect", func(t *testing.T) {
			var server Server
			js.Must("listen", Args{"node": peer.Node, "mode": "echo"}, &server)
			text := strings.Repeat("over there and back again\n", 10_000)
			if got := warren(text, "connect", server.PublicKey.String()); string(got) != text {
				t.Errorf("%d of %d bytes came back", len(got), len(text))
			}
		})
		t.Run("listen", func(t *testing.T) { cliListen(t, js, peer, program, boot) })
	})
}

type cliRecord struct {
	Hash, PublicKey, Value string
	Seq                    uint64
	Acks                   int
}

func cliRecords(t *testing.T, js *Peer, peer Node, warren func(string, ...string) []byte) {
	read := func(b []byte) (r cliRecord) {
		t.Helper()
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		return r
	}
	var theirs struct{ Value Hex }
	put := read(warren("", "put", "from the command line"))
	js.Must("immutableGet", Args{"node": peer.Node, "hash": put.Hash}, &theirs)
	if string(theirs.Value) != "from the command line" || put.Acks == 0 {
		t.Errorf("they read %q", theirs.Value)
	}
	var hash struct{ Hash Hex }
	js.Must("immutablePut", Args{"node": peer.Node, "value": Hex("from them")}, &hash)
	if got := read(warren("", "get", hash.Hash.String())); got.Value != "from them" {
		t.Errorf("we read %q", got.Value)
	}

	seed := strings.Repeat("21", 32)
	put = read(warren("", "put", "--mutable", "--seed", seed, "--seq", "4", "version four"))
	js.Must("mutableGet", Args{"node": peer.Node, "key": put.PublicKey}, &theirs)
	if string(theirs.Value) != "version four" {
		t.Errorf("they read %q", theirs.Value)
	}
	js.Must("mutablePut", Args{"node": peer.Node, "seed": seed, "value": Hex("version five"), "seq": 5}, nil)
	if got := read(warren("", "get", "--mutable", put.PublicKey)); got.Value != "version five" || got.Seq != 5 {
		t.Errorf("we read %+v", got)
	}
	if put = read(warren("", "put", "--mutable", "--seed", seed, "version six")); put.Seq != 6 {
		t.Errorf("the next version is %d", put.Seq)
	}
}

func cliTopics(t *testing.T, js *Peer, peer Node, warren func(string, ...string) []byte) {
	topic := strings.Repeat("5c", 32)
	var theirs struct{ PublicKey Hex }
	js.Must("announce", Args{"node": peer.Node, "topic": topic, "seed": strings.Repeat("31", 32)}, &theirs)
	var ours struct{ PublicKey string }
	if err := json.Unmarshal(warren("", "announce", topic, "--once", "--seed", strings.Repeat("32", 32)), &ours); err != nil {
		t.Fatal(err)
	}
	found := string(warren("", "lookup", topic))
	if strings.Count(found, "\n") != 2 || !strings.Contains(found, ours.PublicKey) || !strings.Contains(found, theirs.PublicKey.String()) {
		t.Errorf("we find\n%s", found)
	}
	var rows json.RawMessage
	js.Must("lookup", Args{"node": peer.Node, "topic": topic}, &rows)
	if !bytes.Contains(rows, []byte(ours.PublicKey)) {
		t.Errorf("they find %s", rows)
	}
}

func cliListen(t *testing.T, js *Peer, peer Node, program string, boot []string) {
	cmd := exec.Command(program, "listen", "--echo", "--json", "--host=127.0.0.1", "--bootstrap", strings.Join(boot, ","))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	events := json.NewDecoder(bufio.NewReader(out))
	next := func() (e struct{ Event, PublicKey, RemotePublicKey, HandshakeHash string }) {
		t.Helper()
		if err := events.Decode(&e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	listening := next()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := js.Dial(ctx, Args{"node": peer.Node, "key": listening.PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Write(ctx, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got, err := conn.Read(ctx, 5); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if e := next(); e.Event != "connection" || e.HandshakeHash != hex.EncodeToString(conn.Info.HandshakeHash) {
		t.Errorf("%+v", e)
	}
	if err := conn.End(ctx); err != nil {
		t.Fatal(err)
	}
	if e := next(); e.Event != "closed" {
		t.Errorf("%+v", e)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	io.Copy(io.Discard, events.Buffered())
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
