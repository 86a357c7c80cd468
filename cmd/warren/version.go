package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version may be set by the linker: -ldflags '-X main.version=v1.2.3'.
var version string

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: `  warren version --json`,
		GroupID: groupOther,
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			v, commit := build()
			a.result(struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				Commit  string `json:"commit"`
			}{v, runtime.Version(), commit}, "warren %s (%s, commit %s)", v, runtime.Version(), commit)
			return nil
		},
	}
}

// build returns the version and the commit that the program was built from.
func build() (v, commit string) {
	v, commit = version, "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v, commit
	}
	if v == "" {
		v = info.Main.Version
	}
	dirty := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty {
		commit += "+dirty"
	}
	return v, commit
}
