package main

import (
	"bytes"
	"context"
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

// A file is served from behind one NAT and fetched from behind another.
func TestServeAndFetch(t *testing.T) {
	folder := t.TempDir()
	content := bytes.Repeat([]byte("warren "), 50000)
	if err := os.WriteFile(filepath.Join(folder, "a.txt"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		net := hyperdhttest.StartVirtual(t, 8)
		home := func() hyperdht.Config {
			return net.Config(hyperdht.Config{Network: net.Internet.NAT(vnet.Cone).Host()})
		}
		ctx, stop := context.WithCancel(t.Context())
		served, done := new(printed.Buffer), make(chan error, 1)
		go func() { done <- run(ctx, served, home(), options{serve: folder}) }()
		time.Sleep(time.Minute)
		url := regexp.MustCompile(`http://[0-9a-f]{64}/`).FindString(served.String())

		var got bytes.Buffer
		if err := run(t.Context(), &got, home(), options{url: url + "a.txt"}); err != nil || !bytes.Equal(got.Bytes(), content) {
			t.Errorf("fetched %d bytes of %d, %v", got.Len(), len(content), err)
		}
		if err := run(t.Context(), &got, home(), options{url: url + "b.txt"}); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("a missing file: %v", err)
		}
		if err := run(t.Context(), &got, home(), options{url: "http://example.org/"}); err == nil {
			t.Error("a host that is no key was dialled")
		}
		if !strings.Contains(served.String(), " asks for /a.txt\n") {
			t.Errorf("the server printed:\n%s", served)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A key in a file is the same the next time, and only its owner reads it.
func TestKeyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "site.key")
	a, err := loadKey(file)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := loadKey(file); err != nil || a != b {
		t.Errorf("%v became %v, %v", a, b, err)
	}
	if err := os.WriteFile(file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadKey(file); err == nil {
		t.Error("nonsense is a key")
	}
}
