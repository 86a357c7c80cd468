package warren

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// floors is the import policy. A package imports only packages of lower floors;
// packages of one floor do not know each other. Folders below a package (its
// internal/ parts) belong to it. Changing this table is a design decision.
const floors = `
	# 0: words and sums. Standard library only; no goroutine, lock, clock or socket.
	0 kad nat compact bencode
	0 internal/pb internal/call internal/token internal/keep internal/seq internal/z32

	# 1: ground.
	1 udp noise internal/sodium internal/feed internal/bucket

	# 2: protocols, each complete alone; vnet is for tests, lab and hyperdhttest.
	2 dhtrpc udx secretstream protomux mainline dhtrpc1 vnet

	# 3: what joins protocols.
	3 relay

	# 4: the building.
	4 hyperdht

	# 5: what users add.
	5 store hyperdhttest

	# 6: people.
	6 cmd examples lab lab/attacks natlab

	# Tools of this repository, which nothing imports but tests.
	tool internal/vectors internal/testsum internal/perturb
`

const (
	modulePath = "github.com/warren-dht/warren"
	tool       = -1 // the floor of the tools
)

// home says which part of the tree alone may import a module, because it is
// what that part wraps.
var home = map[string]string{
	"go.etcd.io/bbolt":       "store",
	"github.com/spf13/cobra": "cmd",
}

// sockets are the names of package net that open one.
var sockets = []string{
	"Dial", "DialIP", "DialTCP", "DialTimeout", "DialUDP", "DialUnix", "Dialer",
	"FileConn", "FileListener", "FilePacketConn",
	"Listen", "ListenConfig", "ListenIP", "ListenMulticastUDP", "ListenPacket", "ListenTCP", "ListenUDP", "ListenUnix",
}

// clocks are the names of package time that ask for the time or wait for it.
var clocks = []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}

// readFloors returns the floor of each package in the table.
func readFloors(t *testing.T) map[string]int {
	t.Helper()
	floor := make(map[string]int)
	for line := range strings.Lines(floors) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		n := tool
		if fields[0] != "tool" {
			var err error
			if n, err = strconv.Atoi(fields[0]); err != nil {
				t.Fatalf("floors: %q", line)
			}
		}
		for _, name := range fields[1:] {
			if _, twice := floor[name]; twice {
				t.Fatalf("floors: %s stands there twice", name)
			}
			floor[name] = n
		}
	}
	return floor
}

// room returns the entry of the table that a folder belongs to, "" for none.
func room(floor map[string]int, dir string) string {
	for ; dir != "."; dir = path.Dir(dir) {
		if _, ok := floor[dir]; ok {
			return dir
		}
	}
	return ""
}

// A source is one Go file, without tests.
type source struct {
	name string // slash-separated, relative to the root
	dir  string
	file *ast.File
}

// sources parses all files of the module, whatever their build constraints.
func sources(t *testing.T, fset *token.FileSet) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name == "." {
				return nil
			}
			_, other := os.Stat(filepath.Join(name, "go.mod"))
			if other == nil || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		slashed := filepath.ToSlash(name)
		all = append(all, source{slashed, path.Dir(slashed), f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestFloors(t *testing.T) {
	floor := readFloors(t)
	fset := token.NewFileSet()
	for _, s := range sources(t, fset) {
		if s.dir == "." {
			if len(s.file.Imports) > 0 {
				t.Errorf("%s: the root holds no code", s.name)
			}
			continue
		}
		here := room(floor, s.dir)
		if here == "" {
			t.Errorf("%s: %s is on no floor", s.name, s.dir)
			continue
		}
		for _, spec := range s.file.Imports {
			target, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if why := forbidden(floor, here, target); why != "" {
				t.Errorf("%s: %s imports %s: %s", fset.Position(spec.Pos()), here, target, why)
			}
		}
		if floor[here] == 0 {
			pureOnly(t, fset, s)
		}
		if n := floor[here]; n >= 2 && n <= 5 {
			for _, use := range uses(s.file, "net", sockets) {
				t.Errorf("%s: net.%s: sockets come from a udp.Network", fset.Position(use.Pos()), use.Sel.Name)
			}
		}
	}
}

// forbidden says why a package of the room here may not import target.
func forbidden(floor map[string]int, here, target string) string {
	if own, ok := strings.CutPrefix(target, modulePath+"/"); ok {
		there := room(floor, own)
		switch {
		case there == "":
			return "it is on no floor"
		case there == here || floor[here] == tool:
			return ""
		case floor[there] == tool:
			return "it is for tests"
		case there == "vnet" && here != "hyperdhttest" && here != "lab":
			return "only tests, lab and hyperdhttest import vnet"
		case floor[there] >= floor[here]:
			return "it is not on a lower floor"
		}
		return ""
	}
	for module, owner := range home {
		if (target == module || strings.HasPrefix(target, module+"/")) && here != owner {
			return "only " + owner + " does"
		}
	}
	first, _, _ := strings.Cut(target, "/")
	if floor[here] == 0 && strings.Contains(first, ".") {
		return "floor 0 is the standard library only"
	}
	return ""
}

// pureOnly reports goroutines, locks, clocks and sockets.
func pureOnly(t *testing.T, fset *token.FileSet, s source) {
	t.Helper()
	for _, spec := range s.file.Imports {
		switch spec.Path.Value {
		case `"net"`, `"os"`, `"sync"`, `"sync/atomic"`, `"syscall"`:
			t.Errorf("%s: floor 0 has no goroutine, lock, clock or socket, and so no %s", fset.Position(spec.Pos()), spec.Path.Value)
		}
	}
	for _, use := range uses(s.file, "time", clocks) {
		t.Errorf("%s: time.%s: floor 0 is told the time", fset.Position(use.Pos()), use.Sel.Name)
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if g, ok := n.(*ast.GoStmt); ok {
			t.Errorf("%s: floor 0 starts no goroutine", fset.Position(g.Pos()))
		}
		return true
	})
}

// uses finds the mentions of a package's names in a file.
func uses(f *ast.File, pkg string, names []string) []*ast.SelectorExpr {
	var found []*ast.SelectorExpr
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == pkg && slices.Contains(names, sel.Sel.Name) {
				found = append(found, sel)
			}
		}
		return true
	})
	return found
}

// The rules themselves, on imports that break them.
func TestFloorsRefuse(t *testing.T) {
	floor := readFloors(t)
	for _, tt := range []struct {
		here, target string
		ok           bool
	}{
		{"kad", "net/netip", true},
		{"kad", modulePath + "/nat", false},
		{"kad", "golang.org/x/crypto/blake2b", false},
		{"udx", "golang.org/x/crypto/blake2b", true},
		{"udx", modulePath + "/udp", true},
		{"udx", modulePath + "/dhtrpc", false},
		{"udx", modulePath + "/hyperdht", false},
		{"udx", modulePath + "/vnet", false},
		{"hyperdht", modulePath + "/vnet", false},
		{"hyperdht", modulePath + "/internal/vectors", false},
		{"hyperdht", modulePath + "/relay", true},
		{"hyperdht", "go.etcd.io/bbolt", false},
		{"hyperdhttest", modulePath + "/vnet", true},
		{"store", "go.etcd.io/bbolt", true},
		{"cmd", "github.com/spf13/cobra/doc", true},
		{"hyperdht", "github.com/spf13/cobra/doc", false},
		{"cmd", modulePath + "/cmd/warren/text", true},
	} {
		if why := forbidden(floor, tt.here, tt.target); (why == "") != tt.ok {
			t.Errorf("%s imports %s: %q", tt.here, tt.target, why)
		}
	}
}

// Every exported name of a package that can be imported has a doc comment, and
// every package has one. A comment over a group of constants or variables
// speaks for all of them.
func TestDocComments(t *testing.T) {
	fset := token.NewFileSet()
	described := make(map[string]bool) // by folder
	for _, s := range sources(t, fset) {
		described[s.dir] = described[s.dir] || s.file.Doc != nil
		if s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			for _, name := range undocumented(d) {
				t.Errorf("%s: %s has no doc comment", fset.Position(name.Pos()), name.Name)
			}
		}
	}
	for dir, ok := range described {
		if !ok {
			t.Errorf("%s: the package has no comment", dir)
		}
	}
}

// conventional methods say by their name what they do.
var conventional = []string{"Error", "GoString", "Is", "Len", "Less", "Pop", "Push", "String", "Swap", "Unwrap"}

// undocumented returns the exported names of a declaration without a comment.
func undocumented(d ast.Decl) []*ast.Ident {
	var bare []*ast.Ident
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) {
			bare = append(bare, d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && cmp.Or(s.Doc, d.Doc, s.Comment) == nil {
					bare = append(bare, s.Name)
				}
			case *ast.ValueSpec:
				for _, name := range s.Names {
					if name.IsExported() && cmp.Or(s.Doc, d.Doc, s.Comment) == nil {
						bare = append(bare, name)
					}
				}
			}
		}
	}
	return bare
}

// exportedReceiver says whether a function, or a method worth a comment, can be
// seen from outside.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported() && !slices.Contains(conventional, d.Name.Name)
		default:
			return false
		}
	}
}
