package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const (
	hex32 = "0707070707070707070707070707070707070707070707070707070707070707"
	// keyHex and keyZ32 are the public key of the seed hex32.
	keyHex = "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c"
)

// What is typed wrongly is refused at once, with status 2 and one line that
// names it.
func TestUsageErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		names string
		args  []string
	}{
		{"frobnicate", []string{"frobnicate"}},
		{"--frob", []string{"version", "--frob"}},
		{"chatty", []string{"version", "--log-level", "chatty"}},
		{"too many", []string{"version", "x"}},
		{"HOST:PORT", []string{"ping"}},
		{"too many", []string{"ping", "127.0.0.1:1", "127.0.0.1:2"}},
		{`"127.0.0.1"`, []string{"ping", "127.0.0.1"}},
		{`"127.0.0.1:70000"`, []string{"ping", "127.0.0.1:70000"}},
		{`"127.0.0.1:0"`, []string{"ping", "127.0.0.1:0"}},
		{"[::1]:5", []string{"ping", "[::1]:5"}},
		{"0.0.0.0:5", []string{"ping", "0.0.0.0:5"}},
		{"--host", []string{"ping", "127.0.0.1:1", "--host", "nowhere"}},
		{"--port", []string{"ping", "127.0.0.1:1", "--port", "70000"}},
		{"--count", []string{"ping", "127.0.0.1:1", "--count", "0"}},
		{"--seed", []string{"keygen", "--seed", "1234"}},
		{"--seed", []string{"keygen", "--seed", hex32, "file"}},
		{"TARGET", []string{"find"}},
		{`"xyz"`, []string{"find", "xyz"}},
		{"name:", []string{"find", "name:"}},
		{"--bootstrap", []string{"find", hex32, "--bootstrap", "127.0.0.1"}},
		{"not-an-ip", []string{"find", hex32, "--bootstrap", "not-an-ip@127.0.0.1:1"}},
		{"--ephemeral", []string{"find", hex32, "--ephemeral=perhaps"}},
		{"--firewalled", []string{"find", hex32, "--firewalled=perhaps"}},
		{"--ephemeral=false", []string{"node", "--ephemeral=false", "--firewalled=true"}},
		{"--command", []string{"query", "--target", hex32}},
		{"--command", []string{"query", "--target", hex32, "--command", "words"}},
		{"--target", []string{"query", "--command", "1"}},
		{"--value-hex", []string{"query", "--command", "1", "--target", hex32, "--value-hex", "0g"}},
		{"--value-hex", []string{"query", "--command", "1", "--target", hex32, "--value-hex", "00", "--value", "x"}},
		{"KEY", []string{"connect"}},
		{"not a public key", []string{"connect", hex32 + "00"}},
		{"no usable key", []string{"connect", strings.Repeat("09", 32)}},
		{"--from", []string{"connect", keyHex, "--from", "8080"}},
		{"--relay-through", []string{"connect", keyHex, "--relay-through", "xyz"}},
		{"--seed", []string{"connect", keyHex, "--seed", "1"}},
		{"--seed and --key", []string{"connect", keyHex, "--seed", hex32, "--key", "f"}},
		{"does not hold a seed", []string{"connect", keyHex, "--key", program}},
		{"exclude each other", []string{"listen", "--echo", "--exec", "x"}},
		{"--allow", []string{"listen", "--exec", "x"}},
		{"--allow", []string{"listen", "--to", "127.0.0.1:1"}},
		{"--allow", []string{"listen", "--echo", "--allow", "him"}},
		{"--allow-file", []string{"listen", "--echo", "--allow-file", "/no/such/file"}},
		{"--to", []string{"listen", "--to", "x", "--allow", "any"}},
		{"--allow-relay", []string{"listen", "--echo", "--allow-relay", "xyz"}},
		{"--max-conns", []string{"listen", "--echo", "--max-conns", "0"}},
		{"--max-conns", []string{"listen", "--echo", "--max-conns", "many"}},
		{"--max-conns 5", []string{"listen", "--echo", "--max-conns=5", "--max-peer-conns=6"}},
		{"--max-peer-conns", []string{"relay", "--max-peer-conns", "-1"}},
		{"--max-size", []string{"receive", keyHex, "--max-size", "1.5G"}},
		{"TOPIC", []string{"announce", "chess"}},
		{"--key", []string{"unannounce", hex32}},
		{"TOPIC", []string{"lookup", "chess"}},
		{"VALUE", []string{"put"}},
		{"--mutable", []string{"put", "--seq", "1", "x"}},
		{"1000", []string{"put", strings.Repeat("x", 1001)}},
		{"920", []string{"put", "--mutable", strings.Repeat("x", 921)}},
		{"2^53-1", []string{"put", "--mutable", "--seq", "9007199254740992", "x"}},
		{"HASH", []string{"get", "12"}},
		{"not a public key", []string{"get", "--mutable", "12"}},
		{"--latest", []string{"get", "--latest", hex32}},
		{"--nodes", []string{"node", "--nodes", "0"}},
		{"--port", []string{"node", "--nodes", "2", "--port", "5000"}},
		{"--metrics", []string{"node", "--metrics", "here"}},
		{"--pprof", []string{"node", "--pprof"}},
		{"--host", []string{"bootstrap"}},
		{"--host", []string{"bootstrap", "--host", "example.org"}},
		{"0.0.0.0", []string{"bootstrap", "--host", "0.0.0.0"}},
		{"--size", []string{"testnet", "--size", "0"}},
		{"--bootstrap", []string{"node", "--bootstrap", ""}},
		{"--seed", []string{"listen", "--echo", "--seed", ""}},
		{"--allow", []string{"listen", "--allow", ""}},
		{"--store", []string{"node", "--store="}},
		{"frobnicate", []string{"v1", "frobnicate"}},
		{"frobnicate", []string{"help", "frobnicate"}},
		{"frobnicate", []string{"help", "mainline", "frobnicate"}},
		{"SHELL", []string{"completion"}},
		{"csh", []string{"completion", "csh"}},
		{"--command", []string{"v1", "query", "--target", hex32}},
		{"--target", []string{"v1", "closest", "--command", "x", "--target", "12"}},
		{"REFERRER", []string{"v1", "holepunch", "127.0.0.1:1"}},
		{"REFERRER", []string{"v1", "holepunch", "127.0.0.1:1", "nowhere"}},
	} {
		o := run(t, tt.args...)
		if o.status != 2 || o.stdout != "" || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, tt.names) {
			t.Errorf("warren %q: status %d, want 2 and one line that names %s:\n%s%s", tt.args, o.status, tt.names, o.stdout, o.stderr)
		}
		o = run(t, append([]string{"--json"}, tt.args...)...)
		var failure struct {
			Error string
			Ms    *float64
		}
		if err := json.Unmarshal([]byte(o.stderr), &failure); err != nil || failure.Error == "" || failure.Ms == nil || o.status != 2 {
			t.Errorf("warren --json %q: status %d, %v: %s", tt.args, o.status, err, o.stderr)
		}
	}
}

// Networks that have no public one demand --bootstrap.
func TestBootstrapIsDemanded(t *testing.T) {
	t.Setenv("WARREN_BOOTSTRAP", "")
	for _, args := range [][]string{
		{"query", "--command", "1", "--target", hex32},
		{"v1", "node"},
		{"v1", "query", "--command", "x", "--target", hex32},
		{"v1", "holepunch", "127.0.0.1:1", "127.0.0.1:2"},
	} {
		cmd := command(t.Context(), args...)
		cmd.Env = os.Environ()
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "--bootstrap") {
			t.Errorf("warren %q: status %d: %s", args, cmd.ProcessState.ExitCode(), out)
		}
	}
}

// Every command has a help text with examples, which goes to stdout.
func TestHelp(t *testing.T) {
	t.Parallel()
	var visit func(path []string)
	visit = func(path []string) {
		o := run(t, append(path, "--help")...).ok(t)
		if !strings.Contains(o.stdout, "Usage:") || len(strings.Split(o.stdout, "\n")[0]) < 10 {
			t.Errorf("warren %q --help:\n%s", path, o.stdout)
		}
		if !strings.Contains(o.stdout, "Examples:\n  warren") && !strings.Contains(o.stdout, "Examples:\n  source") {
			t.Errorf("warren %q --help shows no example", path)
		}
		if o := run(t, append([]string{"help"}, path...)...).ok(t); !strings.Contains(o.stdout, "Usage:\n  warren "+strings.Join(path, " ")) {
			t.Errorf("warren help %q:\n%s", path, o.stdout)
		}
		for _, name := range subcommands(o.stdout) {
			visit(append(path[:len(path):len(path)], name))
		}
	}
	visit(nil)
}

// subcommands reads the names of commands out of a help text.
func subcommands(help string) (names []string) {
	in := false
	for line := range strings.Lines(help) {
		switch {
		case strings.HasSuffix(line, ":\n"):
			in = strings.Contains(line, "Commands") || strings.Contains(line, "onnections") || strings.Contains(line, "Records") ||
				strings.Contains(line, "Nodes") || strings.Contains(line, "tools")
		case in && strings.HasPrefix(line, "  "):
			names = append(names, strings.Fields(line)[0])
		}
	}
	return names
}

// The shells get scripts, and complete commands, flags and their words, but files
// only where files are meant.
func TestCompletion(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if o := run(t, "completion", shell).ok(t); len(strings.Split(o.stdout, "\n")) < 50 || !strings.Contains(o.stdout, "__complete") {
			t.Errorf("%s:\n%s", shell, o.stdout)
		}
	}
	for _, tt := range []struct {
		line string
		want string // the last line is a directive: 0 files, 4 none
	}{
		{"con", "connect\tConnect to a public key\n:4\n"},
		{"mainline pu", "put\tStore an item: a text, or what comes on stdin\n:4\n"},
		{"help frobnicate ", ":4\n"},
		{"completion ", "bash\nzsh\nfish\npowershell\n:4\n"},
		{"connect ", ":4\n"},
		{"send ", ":0\n"},
		{"receive ", ":4\n"},
		{"listen --key ", ":0\n"},
		{"listen --seed ", ":4\n"},
		{"listen --allow-f", "--allow-file\ta `file` with the keys of who may connect, one a line, # begins a comment\n:4\n"},
		{"node --log-level ", "debug\ninfo\nwarn\nerror\n:4\n"},
		{"node --ephemeral=", "auto\ntrue\nfalse\n:4\n"},
		{"mainline node --state ", ":0\n"},
	} {
		if o := run(t, append([]string{"__complete"}, strings.Split(tt.line, " ")...)...); o.stdout != tt.want {
			t.Errorf("%q completes to\n%s, want\n%s", tt.line, o.stdout, tt.want)
		}
	}
}

// Flags that may stand alone take the word that follows, if it is one of theirs.
func TestWordsOfFlags(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"node --ephemeral false --json":        "node --ephemeral=false --json",
		"node --firewalled false --ephemeral":  "node --firewalled=false --ephemeral",
		"put --ephemeral hello":                "put --ephemeral hello",
		"put --firewalled -- --ephemeral true": "put --firewalled -- --ephemeral true",
	} {
		if got := strings.Join(joinWords(strings.Fields(line)), " "); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	var v struct{ Version, Go, Commit string }
	execute(t, "version", "--json").decode(t, &v)
	if v.Version == "" || v.Go != runtime.Version() || v.Commit == "" {
		t.Errorf("%+v", v)
	}
	if o := execute(t, "version").ok(t); !strings.HasPrefix(o.stdout, "warren ") {
		t.Errorf("%q", o.stdout)
	}
}

type keyLine struct{ PublicKey, Z32, Seed string }

// The program ends with the status that it should.
func TestStatus(t *testing.T) {
	t.Parallel()
	if o := execute(t, "frobnicate"); o.status != statusUsage || o.stdout != "" || !strings.Contains(o.stderr, "frobnicate") {
		t.Errorf("%+v", o)
	}
	if o := execute(t, "--help").ok(t); !strings.Contains(o.stdout, "Usage:") {
		t.Errorf("%+v", o)
	}
}

func TestKeygen(t *testing.T) {
	t.Parallel()
	var fresh, again keyLine
	run(t, "keygen", "--json").decode(t, &fresh)
	if len(fresh.PublicKey) != 64 || len(fresh.Z32) != 52 || len(fresh.Seed) != 64 {
		t.Fatalf("%+v", fresh)
	}
	run(t, "keygen", "--json", "--seed", fresh.Seed).decode(t, &again)
	if again.PublicKey != fresh.PublicKey || again.Seed != "" {
		t.Errorf("%+v of the seed of %+v", again, fresh)
	}
	run(t, "keygen", "--json", "--z32", "--seed", fresh.Seed).decode(t, &again)
	if again.PublicKey != fresh.Z32 {
		t.Errorf("with --z32: %+v", again)
	}
	if o := run(t, "keygen", "--seed", hex32).ok(t); o.stdout != keyHex+"\n" {
		t.Errorf("the key of a known seed: %s", o.stdout)
	}

	file := filepath.Join(t.TempDir(), "key")
	fresh = keyLine{}
	run(t, "keygen", "--json", file).decode(t, &fresh)
	b, err := os.ReadFile(file)
	if err != nil || fresh.Seed != "" {
		t.Fatalf("%v, %+v", err, fresh)
	}
	run(t, "keygen", "--json", "--seed", strings.TrimSpace(string(b))).decode(t, &again)
	if again.PublicKey != fresh.PublicKey {
		t.Error("the file holds another key")
	}
	if info, err := os.Stat(file); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if o := run(t, "keygen", file); o.status != 1 || !strings.Contains(o.stderr, file) {
		t.Errorf("over an existing file: %+v", o)
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != string(b) {
		t.Error("an existing key file was changed")
	}
}
