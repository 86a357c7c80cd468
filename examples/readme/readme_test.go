package readme

import (
	"context"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/dhtrpc1"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/hyperdhttest"
	"github.com/warren-dht/warren/internal/vectors"
	"github.com/warren-dht/warren/mainline"
	"github.com/warren-dht/warren/udp"
)

// Every block of Go in README.md is one of the regions here, word for word.
func TestReadmeIsThisCode(t *testing.T) {
	code, err := os.ReadFile("readme.go")
	if err != nil {
		t.Fatal(err)
	}
	regions := map[string]string{} // text to name
	for _, part := range strings.Split(string(code), "\t// region: ")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		body, _, ok := strings.Cut(body, "\t// end\n")
		if !ok {
			t.Fatalf("region %s has no end", name)
		}
		var text strings.Builder
		for line := range strings.Lines(body) {
			text.WriteString(strings.TrimPrefix(line, "\t"))
		}
		regions[text.String()] = name
	}
	readme, err := os.ReadFile(filepath.Join(vectors.Root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(readme), "\n```go\n")[1:]
	if len(blocks) != len(regions) {
		t.Errorf("%d blocks of Go in README.md, %d regions here", len(blocks), len(regions))
	}
	for _, b := range blocks {
		b, _, _ = strings.Cut(b, "```")
		if regions[b] == "" {
			t.Errorf("README.md has a block that is not here:\n%s", b)
		}
	}
}

func TestServeAndFetch(t *testing.T) {
	net := hyperdhttest.Start(t, 5)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	serving, stop := context.WithCancel(ctx)
	ready, done := make(chan hyperdht.PublicKey, 1), make(chan error, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("you are " + r.RemoteAddr)) })
	go func() {
		done <- Serve(serving, net.Config(hyperdht.Config{}), handler, func(k hyperdht.PublicKey) { ready <- k })
	}()
	got, err := Fetch(ctx, net.Config(hyperdht.Config{}), <-ready)
	if err != nil || !strings.HasPrefix(string(got), "you are ") {
		t.Errorf("%q, %v", got, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRecords(t *testing.T) {
	net := hyperdhttest.Start(t, 5)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := Records(ctx, net.Join(hyperdht.Config{})); err != nil {
		t.Error(err)
	}
}

func TestCommands(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	probe, err := udp.Default.Listen(netip.AddrPortFrom(local, 0))
	if err != nil {
		t.Fatal(err)
	}
	at := probe.LocalAddr()
	probe.Close()
	boot, err := dhtrpc.Bootstrapper(at, dhtrpc.Config{Host: local})
	if err != nil {
		t.Fatal(err)
	}
	defer boot.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := Commands(ctx, []string{at.String()}, local); err != nil {
		t.Error(err)
	}
}

func TestTorrent(t *testing.T) {
	local := netip.MustParseAddrPort("127.0.0.1:0")
	boot := mainlineNode(t, local, nil)
	list := []string{boot.Addr().String()}
	for range 4 {
		mainlineNode(t, local, list)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := Torrent(ctx, mainlineConfig(local, list), mainline.FromHash([20]byte{1})); err != nil {
		t.Error(err)
	}
}

func mainlineConfig(at netip.AddrPort, boot []string) mainline.Config {
	return mainline.Config{Addrs: []netip.AddrPort{at}, Bootstrap: boot, NoBootstrap: boot == nil}
}

func mainlineNode(t *testing.T, at netip.AddrPort, boot []string) *mainline.Node {
	t.Helper()
	n, err := mainline.Listen(mainlineConfig(at, boot))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	if err := n.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFirst(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	n, err := dhtrpc1.Listen(dhtrpc1.Config{Host: local})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := First(ctx, dhtrpc1.Config{Host: local, Bootstrap: []netip.AddrPort{n.LocalAddr()}}, dhtrpc1.ID{1}); err != nil {
		t.Error(err)
	}
}
