import Shell
func drill(_ arguments: Arguments) throws -> ExitCode { .failed }
