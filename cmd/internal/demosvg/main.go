// Demosvg draws what "warren demo" prints as a picture of a terminal, for the
// README. The lines appear one after the other where the viewer animates (CSS in
// SVG), and all at once where it does not. Its output is a function of its input:
//
//	go run ./cmd/warren demo | go run ./cmd/internal/demosvg > docs/demo.svg
package main

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// command is what the picture shows before the output.
const command = "go run ./cmd/warren demo"

// Sizes in pixels. A character of the fonts below is about 0.6 of their size
// wide.
const (
	fontSize   = 12
	lineHeight = 20
	margin     = 16
	titleBar   = 28
	maxLines   = 40
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demosvg:", err)
		os.Exit(1)
	}
}

func run(r io.Reader, w io.Writer) error {
	var lines []string
	s := bufio.NewScanner(r)
	for s.Scan() {
		lines = append(lines, s.Text())
	}
	if err := s.Err(); err != nil {
		return err
	}
	if len(lines) == 0 || len(lines) > maxLines {
		return fmt.Errorf("%d lines: that is no demo", len(lines))
	}
	_, err := io.WriteString(w, draw(lines))
	return err
}

// draw returns the picture of the command and its output.
func draw(lines []string) string {
	longest := 0
	for _, l := range lines {
		longest = max(longest, utf8.RuneCountInString(l))
	}
	width := 2*margin + longest*fontSize*3/5 + fontSize
	height := titleBar + 2*margin + (len(lines)+1)*lineHeight
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-label="What warren demo prints">
<style>
text { font: %dpx ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #d0d7de; white-space: pre }
.prompt { fill: #7ee787 }
.step { fill: #79c0ff }
.took { fill: #8b949e }
@keyframes appear { from { opacity: 0 } }
`, width, height, fontSize)
	// Half a second for each line: the steps take milliseconds, which nobody could
	// follow. How long each took stands in it.
	for i := range lines {
		fmt.Fprintf(&b, "#l%d { animation: appear .2s %.1fs backwards }\n", i+1, 0.8+0.5*float64(i))
	}
	fmt.Fprintf(&b, `@media (prefers-reduced-motion: reduce) { g { animation: none !important } }
</style>
<rect width="%d" height="%d" rx="8" fill="#0d1117"/>
<circle cx="18" cy="16" r="5" fill="#ff5f56"/><circle cx="34" cy="16" r="5" fill="#ffbd2e"/><circle cx="50" cy="16" r="5" fill="#27c93f"/>
`, width, height)
	y := titleBar + margin + fontSize
	fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\"><tspan class=\"prompt\">$</tspan> %s</text>\n", margin, y, escape(command))
	for i, l := range lines {
		y += lineHeight
		step, said, took := split(l)
		fmt.Fprintf(&b, "<g id=\"l%d\"><text x=\"%d\" y=\"%d\"><tspan class=\"step\">%s</tspan>%s<tspan class=\"took\">%s</tspan></text></g>\n",
			i+1, margin, y, escape(step), escape(said), escape(took))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// split returns the three parts of a line: the number and title of the step up to
// its colon, what it said, and how long it took.
func split(line string) (step, said, took string) {
	step, said = line, ""
	if i := strings.Index(line, ": "); i >= 0 {
		step, said = line[:i+1], line[i+1:]
	}
	if i := strings.LastIndex(said, " ("); i >= 0 {
		said, took = said[:i], said[i:]
	}
	return step, said, took
}

func escape(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s)) // a Builder does not fail
	return b.String()
}
