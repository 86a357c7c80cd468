package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

const picture = "../../../docs/demo.svg"

// The picture in the docs is what this program makes of the lines that it shows,
// and those begin with the command that the README tells people to type.
func TestPicture(t *testing.T) {
	b, err := os.ReadFile(picture)
	if err != nil {
		t.Fatal(err)
	}
	lines := texts(t, string(b))
	if len(lines) < 2 || lines[0] != "$ "+command {
		t.Fatalf("%q", lines)
	}
	var again strings.Builder
	if err := run(strings.NewReader(strings.Join(lines[1:], "\n")), &again); err != nil {
		t.Fatal(err)
	}
	if again.String() != string(b) {
		t.Error("docs/demo.svg was not made by this program: make it anew")
	}
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "](docs/demo.svg)") || !strings.Contains(string(readme), "\n"+command) {
		t.Error("the README does not show the picture, or not its command")
	}
}

// texts are the lines of a picture: its text elements.
func texts(t *testing.T, svg string) (lines []string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	in := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if token.Name.Local == "text" {
				in = true
				lines = append(lines, "")
			}
		case xml.EndElement:
			in = in && token.Name.Local != "text"
		case xml.CharData:
			if in {
				lines[len(lines)-1] += string(token)
			}
		}
	}
}

func TestDraw(t *testing.T) {
	line := `3. Bob & <Alice>: "Hello" came (back), path direct (1.84ms)`
	svg := draw([]string{line, "no step"})
	if got := texts(t, svg); len(got) != 3 || got[1] != line || got[2] != "no step" {
		t.Errorf("%q", got)
	}
	if step, said, took := split(line); step != "3. Bob & <Alice>:" || said != ` "Hello" came (back), path direct` || took != " (1.84ms)" {
		t.Errorf("%q %q %q", step, said, took)
	}
	for _, in := range []string{"", strings.Repeat("x\n", maxLines+1)} {
		if err := run(strings.NewReader(in), io.Discard); err == nil {
			t.Errorf("%d bytes were drawn", len(in))
		}
	}
}
