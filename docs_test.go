package warren

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every identifier in the middle column of docs/from-javascript.md, and every
// other one with the name of a package of ours before it, exists.
func TestNamesInFromJavaScript(t *testing.T) {
	page, err := os.ReadFile("docs/from-javascript.md")
	if err != nil {
		t.Fatal(err)
	}
	pkgs := map[string]*names{}
	checked := 0
	for _, m := range regexp.MustCompile("`([a-z0-9]+)\\.([A-Z]\\w*)(?:\\.([A-Z]\\w*))?`").FindAllStringSubmatch(string(page), -1) {
		pkg, name, member := m[1], m[2], m[3]
		if _, err := os.Stat(pkg); err != nil {
			continue // netip, net
		}
		checked++
		if !exists(t, pkgs, pkg, name, member) {
			t.Errorf("%s does not exist", m[0])
		}
	}
	if checked < 300 {
		t.Errorf("%d names were checked: that cannot be all", checked)
	}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, " | ")
		if len(cells) != 3 || strings.HasPrefix(line, "| theirs") || strings.HasPrefix(line, "| ---") {
			continue
		}
		if ours := cells[1]; ours != "-" && !strings.Contains(ours, "`") {
			t.Errorf("no name of ours in: %s", line)
		}
	}
}

// What the READMEs of the originals document under a heading is in the page.
func TestFromJavaScriptIsComplete(t *testing.T) {
	const modules = "interop/node_modules"
	if _, err := os.Stat(modules); err != nil {
		t.Skip("the originals are not installed: make interop installs them")
	}
	page, err := os.ReadFile("docs/from-javascript.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(page), "\n## ")
	for module, title := range map[string]string{
		"hyperdht": "hyperdht\n", "dht-rpc": "dht-rpc 6\n", "dht-rpc-v2": "dht-rpc 1 and 2\n", "bittorrent-dht": "bittorrent-dht\n",
		"@hyperswarm/secret-stream": "@hyperswarm/secret-stream\n", "udx-native": "udx-native\n", "protomux": "protomux\n", "blind-relay": "blind-relay\n",
	} {
		readme, err := os.ReadFile(filepath.Join(modules, filepath.FromSlash(module), "README.md"))
		if err != nil {
			t.Error(err)
			continue
		}
		i := slices.IndexFunc(sections, func(s string) bool { return strings.HasPrefix(s, title) })
		if i < 0 {
			t.Errorf("no section %q", title)
			continue
		}
		headings := 0
		for _, m := range regexp.MustCompile("(?m)^#### `(.*)`").FindAllStringSubmatch(string(readme), -1) {
			headings++
			if want := documented(m[1]); !strings.Contains(sections[i], want) {
				t.Errorf("%s documents %s, but the page has no %s", module, m[1], want)
			}
		}
		for line := range strings.Lines(string(readme)) {
			// An option in a block of options: two blanks, its name, a colon.
			if m := regexp.MustCompile(`^  (\w+): [^{]+,?(?: *//.*)?$`).FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil && !strings.HasPrefix(line, "   ") {
				if want := m[1]; !regexp.MustCompile("`[^`]*\\b" + want + "\\b[^`]*`").MatchString(sections[i]) {
					t.Errorf("%s documents an option %s, which the page does not have", module, want)
				}
			}
		}
		if headings == 0 {
			t.Errorf("%s has no headings any more", module)
		}
	}
}

// documented is what a heading is about: the event, or the name after the last
// dot before the arguments.
func documented(heading string) string {
	if m := regexp.MustCompile(`\.on\('[^']+'`).FindString(heading); m != "" {
		return m
	}
	heading = heading[strings.LastIndex(heading, "= ")+1:]
	heading = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(heading), "await "), "new ")
	call, _, _ := strings.Cut(heading, "(")
	if i := strings.LastIndex(call, "."); i >= 0 {
		return call[i+1:]
	}
	return strings.TrimSpace(call)
}

// names are the exported identifiers of a package.
type names struct {
	top     map[string]bool
	members map[string]map[string]bool // of types: fields and methods
	embeds  map[string][]string        // of types: "Type" or "pkg.Type" whose members they have too
}

func exists(t *testing.T, pkgs map[string]*names, pkg, name, member string) bool {
	n := pkgs[pkg]
	if n == nil {
		n = parseNames(t, pkg)
		pkgs[pkg] = n
	}
	if member == "" || !n.top[name] {
		return n.top[name]
	}
	if n.members[name][member] {
		return true
	}
	return slices.ContainsFunc(n.embeds[name], func(e string) bool {
		if from, typ, ok := strings.Cut(e, "."); ok {
			return exists(t, pkgs, filepath.Base(from), typ, member)
		}
		return exists(t, pkgs, pkg, e, member)
	})
}

func parseNames(t *testing.T, dir string) *names {
	n := &names{map[string]bool{}, map[string]map[string]bool{}, map[string][]string{}}
	add := func(typ string, idents ...*ast.Ident) {
		if n.members[typ] == nil {
			n.members[typ] = map[string]bool{}
		}
		for _, i := range idents {
			n.members[typ][i.Name] = true
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					n.top[d.Name.Name] = true
				} else {
					add(typeName(d.Recv.List[0].Type), d.Name)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.ValueSpec:
						for _, i := range s.Names {
							n.top[i.Name] = true
						}
					case *ast.TypeSpec:
						n.top[s.Name.Name] = true
						n.members[s.Name.Name] = mapOf(n.members[s.Name.Name])
						var fields *ast.FieldList
						switch typ := s.Type.(type) {
						case *ast.StructType:
							fields = typ.Fields
						case *ast.InterfaceType:
							fields = typ.Methods
						default: // an alias, perhaps
							n.embeds[s.Name.Name] = append(n.embeds[s.Name.Name], typeName(typ))
							continue
						}
						for _, field := range fields.List {
							add(s.Name.Name, field.Names...)
							if len(field.Names) == 0 {
								embedded := typeName(field.Type)
								n.embeds[s.Name.Name] = append(n.embeds[s.Name.Name], embedded)
								n.members[s.Name.Name][embedded[strings.LastIndex(embedded, ".")+1:]] = true
							}
						}
					}
				}
			}
		}
	}
	return n
}

func mapOf(m map[string]bool) map[string]bool {
	if m == nil {
		m = map[string]bool{}
	}
	return maps.Clone(m)
}

// typeName is "Type" or "pkg.Type", without pointers and type arguments.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.SelectorExpr:
		return typeName(e.X) + "." + e.Sel.Name
	case *ast.IndexExpr:
		return typeName(e.X)
	}
	return "?"
}

// The list of examples is complete.
func TestListOfExamples(t *testing.T) {
	list, err := os.ReadFile("examples/README.md")
	if err != nil {
		t.Fatal(err)
	}
	folders, err := os.ReadDir("examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		if link := "](" + f.Name() + ")"; f.IsDir() && f.Name() != "internal" && !strings.Contains(string(list), link) {
			t.Errorf("examples/README.md does not list %s", f.Name())
		}
	}
	for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(string(list), -1) {
		if _, err := os.Stat(filepath.Join("examples", m[1])); err != nil {
			t.Error(err)
		}
	}
}

// Every row of the table of attacks in SECURITY.md names a test, and each test
// that the page names exists in its package.
func TestClaimsOfSecurityAreTested(t *testing.T) {
	page, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string]string{"attacks": "lab/attacks", "keep": "internal/keep", "warren": "cmd/warren"}
	named := regexp.MustCompile("`([a-z0-9]+)\\.(Test\\w+)`")
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, " | ")
		if len(cells) != 3 || strings.HasPrefix(line, "| attack ") || strings.HasPrefix(line, "| --- ") {
			continue
		}
		rows++
		tests := named.FindAllStringSubmatch(cells[2], -1)
		if len(tests) == 0 {
			t.Errorf("no test in: %s", line)
		}
		for _, m := range tests {
			dir := folders[m[1]]
			if dir == "" {
				dir = m[1]
			}
			files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(files, func(file string) bool {
				b, err := os.ReadFile(file)
				return err == nil && strings.Contains(string(b), "\nfunc "+m[2]+"(")
			}) {
				t.Errorf("%s does not exist", m[0])
			}
		}
	}
	if rows < 30 {
		t.Errorf("%d rows were checked: that cannot be all", rows)
	}
}
