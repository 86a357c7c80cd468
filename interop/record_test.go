//go:build interop

package interop

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write what the references compute today into testdata/")

// The vectors still say what the reference implementations compute. With
// -rewrite the files are written anew; look at the difference before you keep
// it.
func TestVectorsAreTheReferences(t *testing.T) {
	js := StartJS(t, "record.js")
	var files []string
	js.Must("files", nil, &files)
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			var result struct {
				Sections map[string]struct {
					Recorded, Computed []any
				}
				Rewritten string
			}
			js.Must("record", Args{"file": file}, &result)
			changed := false
			for name, s := range result.Sections {
				if len(s.Recorded) == 0 {
					t.Errorf("%s is empty", name)
				}
				if diff := cmp.Diff(s.Recorded, s.Computed); diff != "" {
					changed = true
					t.Errorf("%s (-recorded +computed):\n%s", name, diff)
				}
			}
			path := filepath.Join(Dir(t), "..", "testdata", file)
			old, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !changed && !equalJSON(t, old, []byte(result.Rewritten)) {
				t.Error("the recorder changes more than its sections")
			}
			if *rewrite && changed {
				if err := os.WriteFile(path, []byte(result.Rewritten), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	if len(files) == 0 {
		t.Error("nothing is recorded")
	}
}

func equalJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	for _, p := range []struct {
		b []byte
		v *any
	}{{a, &x}, {b, &y}} {
		if err := json.Unmarshal(p.b, p.v); err != nil {
			t.Fatal(err)
		}
	}
	return cmp.Equal(x, y)
}
