// Command mutants checks the tests: each patch in tests/mutants seeds one bug, and some test must notice it.
//
//	go run ./tools/mutants [name ...]
//
// The first lines of a patch, up to the diff, say what the bug is and, after "packages:", whose tests are run. A bug that
// no test notices has survived; a patch that does not apply or compile proves nothing. Both make the exit status 1.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
)

const (
	folder   = "tests/mutants"
	atOnce   = 2
	patience = "120s"
)

// mutant is one seeded bug and what became of it.
type mutant struct {
	name, about string
	packages    []string
	verdict     string
	by          string // the first test that failed, or what went wrong
}

var failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

func main() {
	mutants, err := read(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
	var group sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range mutants {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			mutants[i].try()
			fmt.Fprintln(os.Stderr, mutants[i].verdict, mutants[i].name)
		})
	}
	group.Wait()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "verdict\tbug\tby")
	bad := 0
	for _, m := range mutants {
		fmt.Fprintf(table, "%s\t%s: %s\t%s\n", m.verdict, m.name, m.about, m.by)
		if m.verdict != "killed" {
			bad++
		}
	}
	_ = table.Flush()
	fmt.Printf("%d of %d seeded bugs were noticed\n", len(mutants)-bad, len(mutants))
	if bad > 0 {
		os.Exit(1)
	}
}

// read finds the patches, those with the given names or all.
func read(names []string) ([]mutant, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*.patch"))
	if err != nil || len(paths) == 0 {
		return nil, errors.Join(err, fmt.Errorf("no patches in %s; run this from the top of the tree", folder))
	}
	var mutants []mutant
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".patch")
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		head, _, _ := strings.Cut(string(text), "diff --git")
		about, packages, found := strings.Cut(strings.TrimSpace(head), "packages:")
		if !found {
			return nil, fmt.Errorf("%s does not say its packages", path)
		}
		mutants = append(mutants, mutant{name: name, about: strings.TrimSpace(about), packages: strings.Fields(packages)})
	}
	return mutants, nil
}

// try runs the tests in a copy with the bug.
func (m *mutant) try() {
	copied, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		m.verdict, m.by = "BROKEN", err.Error()
		return
	}
	defer os.RemoveAll(copied)
	patch, _ := filepath.Abs(filepath.Join(folder, m.name+".patch"))
	for _, command := range [][]string{
		{"cp", "-R", "go.mod", "go.sum", "core", "tests/contract/config_rows.json", copied},
		{"git", "-C", copied, "apply", patch},
		{"go", "-C", copied, "vet", "./core/..."},
	} {
		if output, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			m.verdict, m.by = "BROKEN", firstLine(output)
			return
		}
	}
	arguments := append([]string{"-C", copied, "test", "-count=1", "-timeout=" + patience}, m.packages...)
	command := exec.Command("go", arguments...)
	command.Env = append(os.Environ(), "VELITHON_PROXY_CONFIG_ROWS="+filepath.Join(copied, "config_rows.json"))
	output, err := command.CombinedOutput()
	switch found := failedTest.FindSubmatch(output); {
	case err == nil:
		m.verdict = "SURVIVED"
	case found != nil:
		m.verdict, m.by = "killed", string(found[1])
	case bytes.Contains(output, []byte("test timed out")):
		m.verdict, m.by = "killed", "a test that did not end"
	default:
		m.verdict, m.by = "BROKEN", firstLine(output)
	}
}

func firstLine(output []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(output)), "\n")
	return line
}
