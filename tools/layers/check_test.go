package main

import (
	"os"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheTreeKeepsItsLayers(t *testing.T) {
	violations, err := check(os.DirFS("../.."))
	require.NoError(t, err)
	assert.Empty(t, violations)
}

func TestEachRule(t *testing.T) {
	const here = `"` + module + `/`
	tests := []struct {
		name, file, source string
		want               []string // parts of the violations, in order; none when the source is allowed
	}{
		{"core imports a leaf", "core/a.go", "package core\nimport " + here + `core/h1"`, nil},
		{"capi imports core", "capi/a.go", "package main\nimport " + here + `core"`, nil},
		{"a leaf imports a part of itself", "core/h1/a.go", "package h1\nimport " + here + `core/h1/wire"`, nil},
		{"the transport imports fasthttp", "core/h1/a.go", "package h1\nimport \"github.com/valyala/fasthttp\"", nil},
		{"a test prints", "core/a_test.go", "package core\nimport \"fmt\"\nfunc f() { fmt.Println() }", nil},
		{"a method named Exit", "core/a.go", "package core\nfunc f(os struct{ Exit func() }) { os.Exit() }", nil},
		{"testdata is no code", "core/testdata/a.go", "package x\nimport \"C\"", nil},

		{"a leaf imports core", "core/h1/a.go", "package h1\nimport " + here + `core"`, []string{"core/h1/a.go:2: core/h1 must not import"}},
		{"a leaf imports a leaf", "core/retry/a.go", "package retry\nimport " + here + `core/h1"`, []string{"neither core nor another leaf"}},
		{"a leaf's test imports core", "core/h1/a_test.go", "package h1\nimport " + here + `core"`, []string{"neither core nor another leaf"}},
		{"core imports capi", "core/a.go", "package core\nimport " + here + `capi"`, []string{"its leaves only"}},
		{"capi imports a tool", "capi/a.go", "package main\nimport " + here + `tools/layers"`, []string{"capi imports the core only"}},
		{"core imports fasthttp", "core/a.go", "package core\nimport \"github.com/valyala/fasthttp\"", []string{"only core/h1 knows fasthttp"}},
		{"a part of fasthttp counts", "core/a.go", "package core\nimport \"github.com/valyala/fasthttp/fasthttputil\"", []string{"only core/h1"}},
		{"core uses cgo", "core/a.go", "package core\nimport \"C\"", []string{"pure Go"}},
		{"unsafe where it has a reason", "core/h1/socket_linux.go", "package h1\nimport \"unsafe\"", nil},
		{"core uses unsafe", "core/h1/a.go", "package h1\nimport \"unsafe\"", []string{"business of capi"}},
		{"capi uses unsafe elsewhere", "capi/task.go", "package main\nimport \"unsafe\"", []string{"listed with a reason"}},
		{"core reads the environment", "core/a.go", "package core\nimport \"os\"\nvar x = os.Getenv(\"X\")", []string{"core/a.go:3: os.Getenv"}},
		{"under another name", "core/a.go", "package core\nimport sys \"os\"\nfunc f() { sys.Exit(1) }", []string{"sys.Exit"}},
		{"by a dot import", "core/a.go", "package core\nimport . \"os\"\nfunc f() { Exit(1) }", []string{"must not import os with a dot"}},
		{"core logs", "core/a.go", "package core\nimport \"log\"\nfunc f() { log.Fatal() }", []string{"must not import log"}},
		{"capi takes signals", "capi/a.go", "package main\nimport \"os/signal\"", []string{"must not import os/signal"}},
		{"capi prints", "capi/a.go", "package main\nimport \"fmt\"\nfunc main() { fmt.Println(); println() }", []string{"fmt.Println", "println: standard error"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tree := fstest.MapFS{
				"core/doc.go":  {Data: []byte("package core")},
				"capi/main.go": {Data: []byte("package main")},
				test.file:      {Data: []byte(test.source)},
			}
			violations, err := check(tree)
			require.NoError(t, err)
			require.Len(t, violations, len(test.want), "%v", violations)
			for i, part := range test.want {
				assert.Contains(t, violations[i], part)
			}
		})
	}
}

func TestAMissingFolderIsAnError(t *testing.T) {
	_, err := check(fstest.MapFS{"core/doc.go": {Data: []byte("package core")}})
	assert.Error(t, err)
}
