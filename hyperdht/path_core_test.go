package hyperdht

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/warren-dht/warren/udp"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden conversations in testdata")

// Each file in testdata/paths is a conversation with one pathCore: a line says
// what happens, the lines below it, indented, what the core decides.
//
// "at 500ms" sets the time, "heard A" says that the peer's packet came by path A
// now, "flight 3" that three packets wait for an acknowledgement. The first
// letter of a path's name is its kind: D direct, L lan, P punched, R relayed.
func TestPathConversations(t *testing.T) {
	files, err := filepath.Glob("testdata/paths/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no conversations: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			c := newPathConversation(t)
			for line := range strings.Lines(string(want)) {
				line = strings.TrimRight(line, "\n")
				if strings.HasPrefix(line, "\t") {
					continue
				}
				fmt.Fprintln(&got, line)
				if line != "" && !strings.HasPrefix(line, "#") {
					for _, a := range c.do(strings.Fields(line)) {
						fmt.Fprintf(&got, "\t%s\n", a)
					}
				}
			}
			if *rewrite {
				if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("got:\n%s", &got)
			}
		})
	}
}

// A namedConn is a socket that is nothing but its name.
type namedConn struct {
	udp.Conn
	name string
}

type pathConversation struct {
	t      *testing.T
	core   pathCore
	start  time.Time
	now    time.Time
	heard  time.Time
	seen   sighting
	paths  map[string]socketPath
	nonces byte
}

func newPathConversation(t *testing.T) *pathConversation {
	c := &pathConversation{t: t, start: time.Unix(1000, 0), paths: map[string]socketPath{}}
	c.now = c.start
	c.core.nonce = func() [8]byte { c.nonces++; return [8]byte{c.nonces} }
	return c
}

func (c *pathConversation) path(name string) socketPath {
	p, ok := c.paths[name]
	if !ok {
		p = socketPath{&namedConn{name: name}, netip.AddrPortFrom(netip.AddrFrom4([4]byte{8, 8, 8, byte(len(c.paths))}), 1000)}
		c.paths[name] = p
	}
	return p
}

func (c *pathConversation) name(p socketPath) string {
	for name, x := range c.paths {
		if x == p {
			return name
		}
	}
	return "nothing"
}

func (c *pathConversation) candidate(name string) candidate {
	kinds := map[byte]PathKind{'D': PathDirect, 'L': PathLAN, 'P': PathPunched, 'R': PathRelayed}
	return candidate{c.path(name), kinds[name[0]]}
}

func (c *pathConversation) do(w []string) (said []string) {
	seen := c.seen
	seen.silence = 1 << 62
	if !c.heard.IsZero() {
		seen.silence = c.now.Sub(c.heard)
	}
	was := c.core.current
	var s pathStep
	switch w[0] {
	case "peer": // [proves] [keeps-relay]
		c.core.proves = slices.Contains(w, "proves")
		c.core.keepsRelay = slices.Contains(w, "keeps-relay")
	case "at":
		d, err := time.ParseDuration(w[1])
		if err != nil {
			c.t.Fatal(err)
		}
		c.now = c.start.Add(d)
	case "heard":
		c.heard, c.seen.last = c.now, c.path(w[1])
	case "flight":
		c.seen.inFlight, _ = strconv.Atoi(w[1])
	case "offered":
		s = c.core.offer(c.now, c.candidate(w[1]), offered, seen)
	case "arrived":
		s = c.core.offer(c.now, c.candidate(w[1]), arrived, seen)
	case "expected":
		s = c.core.offer(c.now, c.candidate(w[1]), expected, seen)
	case "answered": // path nonce
		n, _ := strconv.Atoi(w[2])
		s = c.core.answered(c.now, c.path(w[1]), [8]byte{byte(n)}, seen)
	case "challenged":
		if c.core.answers(c.path(w[1])) {
			return []string{"answer"}
		}
		return []string{"no answer"}
	case "established":
		s = c.core.establish(c.now, seen)
	case "relay":
		s = c.core.useRelay(c.now, c.path(w[1]))
	case "relay-gone":
		c.core.relay = socketPath{}
	case "tick":
		s = c.core.tick(c.now, seen)
	default:
		c.t.Fatalf("what is %q?", w)
	}
	if s.process && !s.take {
		said = append(said, "process")
	}
	if s.take {
		said = append(said, fmt.Sprintf("take %s, %v", c.name(c.core.current.socketPath), c.core.current.kind))
	}
	if (was != c.core.current) != s.take {
		c.t.Errorf("%v: the current path changes without a decision, or the other way round", w)
	}
	for _, x := range s.challenges {
		said = append(said, fmt.Sprintf("challenge %s with %d", c.name(x.socketPath), x.nonce[0]))
	}
	for _, x := range []struct {
		on   bool
		name string
	}{{s.validated, "no limit"}, {s.upgraded, "upgraded"}, {s.fellBack, "fell back"}, {s.nudge, "nudge"}, {s.dropRelay, "drop the relay"}} {
		if x.on {
			said = append(said, x.name)
		}
	}
	if len(c.core.challenges) > maxChallenges {
		c.t.Errorf("%d challenges", len(c.core.challenges))
	}
	return said
}

// The limits that a document names are reached here: four candidates are
// challenged at once, the current path's challenge never gives way, and each
// address draws one challenge in 100 ms.
func TestPathChallengesAreBounded(t *testing.T) {
	c := newPathConversation(t)
	c.core.proves = true
	c.do([]string{"offered", "D0"})
	c.do([]string{"established"})
	c.heard, c.seen.last = c.now, c.path("D0")
	c.now = c.now.Add(time.Second)
	sent := 0
	for i := range 1000 {
		sent += len(c.do([]string{"arrived", "D" + strconv.Itoa(1+i%250)}))
	}
	if len(c.core.challenges) != maxChallenges || c.core.challenges[0].socketPath != c.path("D0") {
		t.Errorf("%d challenges, the first to %s", len(c.core.challenges), c.name(c.core.challenges[0].socketPath))
	}
	if sent > 1000 {
		t.Errorf("%d challenges for 1,000 packets", sent)
	}
	before := sent
	for range 100 {
		sent += len(c.do([]string{"arrived", "D250"}))
	}
	if sent != before {
		t.Errorf("%d challenges to one address in no time", sent-before+1)
	}
}

// A challenge is never more than three times the smallest packet that draws it
// (RFC 9000, section 8.1).
func TestChallengeIsSmall(t *testing.T) {
	const header = 20 // of UDX
	if n := header + pathMessageSize; n > 3*header {
		t.Errorf("a challenge has %d bytes", n)
	}
}
