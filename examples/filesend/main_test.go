package main

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/examples/internal/printed"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/hyperdhttest"
	"github.com/warren-dht/warren/vnet"
)

// slow is a line of 1 MB/s at both ends.
var slow = vnet.Link{Latency: 10 * time.Millisecond, Rate: 1 << 20}

func slowHost(net *hyperdhttest.Network) hyperdht.Config {
	host := net.Internet.Host()
	host.SetLink(slow)
	return net.Config(hyperdht.Config{Network: host})
}

// A file is received in two goes, since the receiver leaves in the middle.
func TestSendAndResume(t *testing.T) {
	dir := t.TempDir()
	content := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{1}).Read(content)
	source, target := filepath.Join(dir, "source.bin"), filepath.Join(dir, "target.bin")
	if err := os.WriteFile(source, content, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		net := hyperdhttest.StartVirtual(t, 6)
		sent, bar, done := new(printed.Buffer), new(printed.Buffer), make(chan error, 1)
		go func() { done <- run(t.Context(), sent, slowHost(net), options{send: source, bar: bar}) }()
		time.Sleep(time.Minute)
		code := regexp.MustCompile(`[0-9a-f]{64}`).FindString(sent.String())

		// Whoever has another code does not even get an answer.
		var got printed.Buffer
		o := options{receive: strings.Repeat("1", 64), output: target, bar: io.Discard}
		if err := run(t.Context(), &got, slowHost(net), o); err == nil {
			t.Error("a wrong code fetches the file")
		}

		o.receive = code
		ctx, leave := context.WithTimeout(t.Context(), 3*time.Second)
		defer leave()
		if err := run(ctx, &got, slowHost(net), o); err == nil {
			t.Fatal("four megabytes passed in three seconds")
		}
		parts, _ := filepath.Glob(filepath.Join(dir, "*.part"))
		if len(parts) != 1 {
			t.Fatalf("parts: %v", parts)
		}
		info, err := os.Stat(parts[0])
		if err != nil || info.Size() < 1<<19 || info.Size() >= int64(len(content)) {
			t.Fatalf("%d bytes in the part, %v", info.Size(), err)
		}
		if err := run(t.Context(), &got, slowHost(net), o); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if !strings.Contains(got.String(), "going on at byte ") || !strings.Contains(sent.String(), "source.bin has arrived\n") {
			t.Errorf("they printed:\n%s%s", sent, &got)
		}
		if !strings.Contains(bar.String(), "100%") {
			t.Errorf("the bar: %q", bar)
		}
	})
	if got, err := os.ReadFile(target); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes arrived of %d, %v", len(got), len(content), err)
	}
}

// A part that is not how the file begins is not kept, and a file that exists is
// not replaced.
func TestOtherPart(t *testing.T) {
	dir := t.TempDir()
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
	if err := os.WriteFile(source, []byte("the second version"), 0o600); err != nil {
		t.Fatal(err)
	}
	code := strings.Repeat("2", 64)
	sender, _ := keys(bytes.Repeat([]byte{0x22}, 32))
	if err := os.WriteFile(filepath.Join(dir, "filesend-"+sender.Public.String()[:8]+".part"), []byte("the first"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		net := hyperdhttest.StartVirtual(t, 6)
		done := make(chan error, 1)
		ctx, stop := context.WithCancel(t.Context())
		go func() {
			for ctx.Err() == nil {
				run(ctx, io.Discard, slowHost(net), options{send: source, code: code, bar: io.Discard})
			}
			close(done)
		}()
		time.Sleep(time.Minute)
		o := options{receive: code, output: target, bar: io.Discard}
		if err := run(t.Context(), io.Discard, slowHost(net), o); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := run(t.Context(), io.Discard, slowHost(net), o); err == nil || !strings.Contains(err.Error(), "exists") {
			t.Errorf("a file that exists: %v", err)
		}
		stop()
		<-done
	})
	if got, err := os.ReadFile(target); err != nil || string(got) != "the second version" {
		t.Errorf("%q, %v", got, err)
	}
}
