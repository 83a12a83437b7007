package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

const (
	module = "github.com/velithon/velithon-proxy"

	// transport is the one package that may know fasthttp; the rest of the core speaks net/http's words or none.
	transport = "core/h1"
	fasthttp  = "github.com/valyala/fasthttp"
)

// forbidden names, per import path, what no production code of core and capi may use, and why. An empty list forbids
// the whole package.
var forbidden = []struct {
	path  string
	names []string
	why   string
}{
	{"os", []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Setenv", "Unsetenv"}, "Go does not see Python's os.environ; options come in the configuration"},
	{"syscall", []string{"Getenv", "Environ", "Setenv", "Unsetenv"}, "Go does not see Python's os.environ; options come in the configuration"},
	{"os", []string{"Exit"}, "the process belongs to the Python program"},
	{"syscall", []string{"Exit"}, "the process belongs to the Python program"},
	{"os", []string{"Stdin", "Stdout", "Stderr"}, "the standard streams belong to the Python program"},
	{"fmt", []string{"Print", "Printf", "Println"}, "standard output belongs to the Python program"},
	{"os/signal", nil, "signals belong to the Python program"},
	{"log", nil, "log.Fatal ends the process and the default logger writes to standard error"},
	{"log/slog", nil, "the default logger writes to standard error"},
}

// unsafeAllowed are the files of core and capi that may import unsafe, and why.
var unsafeAllowed = map[string]string{
	"capi/memory.go":          "memory that Python lends for the time of a request",
	"capi/wake_linux.go":      "a raw system call takes the address of a buffer",
	"core/h1/socket_linux.go": "raw system calls on non-blocking sockets take the address of a buffer; unix.Recvfrom would tell the scheduler to expect a wait",
}

// builtins print to standard error.
var builtins = []string{"print", "println"}

// check reads every Go file below core and capi in root and returns one line per broken rule, sorted by file.
// Tests may import and print what they like, except for the arrows between the packages of this module.
func check(root fs.FS) ([]string, error) {
	var violations []string
	for _, top := range []string{"capi", "core"} {
		err := fs.WalkDir(root, top, func(name string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() && entry.Name() == "testdata" {
				return fs.SkipDir
			}
			if entry.IsDir() || path.Ext(name) != ".go" {
				return nil
			}
			found, err := checkFile(root, name)
			violations = append(violations, found...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return violations, nil
}

func checkFile(root fs.FS, name string) ([]string, error) {
	source, err := fs.ReadFile(root, name)
	if err != nil {
		return nil, err
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	folder := path.Dir(name)
	test := strings.HasSuffix(name, "_test.go")
	var violations []string
	report := func(at token.Pos, format string, arguments ...any) {
		where := files.Position(at)
		violations = append(violations, fmt.Sprintf("%s:%d: %s", where.Filename, where.Line, fmt.Sprintf(format, arguments...)))
	}

	imported := map[string]string{} // the name a file calls a package by -> its path
	for _, spec := range file.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		local := path.Base(target)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		imported[local] = target
		if local == "." {
			report(spec.Pos(), "%s must not import %s with a dot: its names could not be checked", folder, target)
		}
		if reason := arrow(name, target, test); reason != "" {
			report(spec.Pos(), "%s must not import %s: %s", folder, target, reason)
		}
	}
	if test {
		return violations, nil
	}
	for _, rule := range forbidden {
		for _, target := range imported {
			if target == rule.path && rule.names == nil {
				report(file.Package, "%s must not import %s: %s", folder, target, rule.why)
			}
		}
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.SelectorExpr:
			local, ok := node.X.(*ast.Ident)
			if !ok {
				return true
			}
			for _, rule := range forbidden {
				if rule.path == imported[local.Name] && slices.Contains(rule.names, node.Sel.Name) {
					report(node.Pos(), "%s.%s: %s", local.Name, node.Sel.Name, rule.why)
				}
			}
		case *ast.CallExpr:
			if called, ok := node.Fun.(*ast.Ident); ok && slices.Contains(builtins, called.Name) {
				report(node.Pos(), "%s: standard error belongs to the Python program", called.Name)
			}
		}
		return true
	})
	return violations, nil
}

// arrow says why the file called name must not import target; an empty string when it may.
func arrow(name, target string, test bool) string {
	folder := path.Dir(name)
	if (target == fasthttp || strings.HasPrefix(target, fasthttp+"/")) && folder != transport && !test {
		return "only " + transport + " knows fasthttp"
	}
	inCore := folder == "core" || strings.HasPrefix(folder, "core/")
	if inCore && (target == "C" || target == "runtime/cgo") {
		return "the core is pure Go"
	}
	if target == "unsafe" && unsafeAllowed[name] == "" && !test {
		return "unsafe is for the files that are listed with a reason; memory shared with C is the business of capi/memory.go"
	}
	inner, ours := strings.CutPrefix(target, module+"/")
	switch {
	case !ours:
		return ""
	case leaf(folder) != "":
		if leaf(inner) != leaf(folder) {
			return "a leaf imports neither core nor another leaf"
		}
	case folder == "core":
		if leaf(inner) == "" {
			return "the core imports its leaves only"
		}
	case inner != "core" && leaf(inner) == "":
		return "capi imports the core only"
	}
	return ""
}

// leaf is the part of the core that a folder belongs to, such as h1; empty for core itself and all else.
func leaf(folder string) string {
	below, ok := strings.CutPrefix(folder, "core/")
	if !ok {
		return ""
	}
	first, _, _ := strings.Cut(below, "/")
	return first
}
