// `ress config show` and `ress config reference`.

import Configuration
import Shell

func configShow(_ arguments: Arguments) throws -> ExitCode {
  let configuration = try ConfigurationDecoder.decode(
    file: arguments.words[0], overrides: arguments.texts("--set").map(ConfigurationOverride.init(set:)))
  Terminal.write(ConfigurationEncoder.yaml(configuration))
  return .done
}

func configReference() -> ExitCode {
  Terminal.write(ConfigurationReference.markdown())
  return .done
}
