//! Definitions that the stories run. What a step does is said by the input of its saga, so that a
//! few definitions tell many stories.

/// Three steps, each with its undo: `{"one": {"step": "One", …}, "two": …, "three": …}`.
pub const THREE: &str = r#"
name: three
definition:
  StartAt: One
  States:
    One:
      Type: Task
      Resource: activity:ledger.write
      Arguments: "{% $states.context.Execution.Input.one %}"
      Compensate: { Resource: activity:ledger.erase }
      Retry: [{ ErrorEquals: [Transient], IntervalSeconds: 0.05, MaxAttempts: 3 }]
      Next: Two
    Two:
      Type: Task
      Resource: activity:ledger.write
      Arguments: "{% $states.context.Execution.Input.two %}"
      Compensate: { Resource: activity:ledger.erase }
      Retry: [{ ErrorEquals: [Transient, States.TaskFailed], IntervalSeconds: 0.05, MaxAttempts: 2 }]
      Next: Three
    Three:
      Type: Task
      Resource: activity:ledger.write
      Arguments: "{% $states.context.Execution.Input.three %}"
      Compensate: { Resource: activity:ledger.erase }
      End: true
"#;

/// A step whose trouble is caught: `Undone` undoes it and the saga ends well.
pub const CAUGHT: &str = r#"
name: caught
definition:
  StartAt: Before
  States:
    Before:
      Type: Task
      Resource: activity:ledger.write
      Arguments: { step: Before }
      Compensate: { Resource: activity:ledger.erase }
      Next: Risky
    Risky:
      Type: Task
      Resource: activity:ledger.write
      Arguments: "{% $states.context.Execution.Input.risky %}"
      Compensate: { Resource: activity:ledger.erase }
      Catch:
        - ErrorEquals: [OutOfStock]
          Output: { "because": "{% $states.errorOutput.Error %}" }
          Next: Mended
        - ErrorEquals: [States.Timeout, States.HeartbeatTimeout]
          Next: TakenBack
      TimeoutSeconds: 0.4
      Next: Done
    Done: { Type: Succeed }
    Mended: { Type: Succeed }
    TakenBack: { Type: Compensate, Next: Late }
    Late: { Type: Succeed, Output: { late: true } }
"#;

/// A step that must beat.
pub const BEATING: &str = r#"
name: beating
definition:
  StartAt: Beat
  States:
    Beat:
      Type: Task
      Resource: activity:ledger.write
      Arguments: "{% $states.input %}"
      Compensate: none
      TimeoutSeconds: 20
      HeartbeatSeconds: 0.3
      End: true
"#;

/// A step, then a signal, then a step.
pub const SIGNALLED: &str = r#"
name: signalled
definition:
  StartAt: Before
  States:
    Before:
      Type: Task
      Resource: activity:ledger.write
      Arguments: { step: Before, ms: "{% $states.input.ms %}" }
      Compensate: { Resource: activity:ledger.erase }
      Next: Held
    Held:
      Type: Task
      Resource: signal:go
      Assign: { said: "{% $states.result %}" }
      Next: After
    After:
      Type: Task
      Resource: activity:ledger.write
      Arguments: { step: After }
      Compensate: { Resource: activity:ledger.erase }
      Output: { said: "{% $said %}" }
      End: true
"#;

/// A step, then a rest, then a step that may fail.
pub const RESTING: &str = r#"
name: resting
definition:
  StartAt: Before
  States:
    Before:
      Type: Task
      Resource: activity:ledger.write
      Arguments: { step: Before }
      Compensate: { Resource: activity:ledger.erase }
      Next: Rest
    Rest: { Type: Wait, Seconds: "{% $states.context.Execution.Input.seconds %}", Next: After }
    After:
      Type: Task
      Resource: activity:ledger.write
      Arguments: { step: After, fail: "{% $states.context.Execution.Input.fail %}" }
      Compensate: { Resource: activity:ledger.erase }
      End: true
"#;

/// A person decides.
pub const HUMAN: &str = r#"
name: human
definition:
  StartAt: Ask
  States:
    Ask:
      Type: Task
      Resource: task:human
      Arguments: { question: may it }
      Next: Decided
    Decided:
      Type: Choice
      Choices: [{ Condition: "{% $states.input.yes %}", Next: Granted }]
      Default: Refused
    Granted: { Type: Succeed }
    Refused: { Type: Fail, Error: Refused, Cause: a person said no }
"#;

/// A step, then a child: `{"child": input of three}`.
pub const PARENT: &str = r#"
name: parent
definition:
  StartAt: Before
  States:
    Before:
      Type: Task
      Resource: activity:ledger.write
      Arguments: { step: Before }
      Compensate: { Resource: activity:ledger.erase }
      Next: Child
    Child:
      Type: Task
      Resource: saga:three
      Arguments: "{% $states.context.Execution.Input.child %}"
      End: true
"#;

/// Items side by side, two at a time.
pub const EACH: &str = r#"
name: each
definition:
  StartAt: All
  States:
    All:
      Type: Map
      Items: "{% $states.input.items %}"
      MaxConcurrency: 2
      ItemProcessor:
        StartAt: Item
        States:
          Item:
            Type: Task
            Resource: activity:ledger.write
            Compensate: { Resource: activity:ledger.erase }
            End: true
      End: true
"#;

/// Two branches side by side: `{"left": …, "right": …}`.
pub const BOTH: &str = r#"
name: both
definition:
  StartAt: Both
  States:
    Both:
      Type: Parallel
      Branches:
        - StartAt: Left
          States:
            Left:
              Type: Task
              Resource: activity:ledger.write
              Arguments: "{% $states.context.Execution.Input.left %}"
              Compensate: { Resource: activity:ledger.erase }
              End: true
        - StartAt: Right
          States:
            Right:
              Type: Task
              Resource: activity:ledger.write
              Arguments: "{% $states.context.Execution.Input.right %}"
              Compensate: { Resource: activity:ledger.erase }
              End: true
      End: true
"#;

/// Says something to the world between two steps.
pub const TELLING: &str = r#"
name: telling
definition:
  StartAt: Before
  States:
    Before:
      Type: Task
      Resource: activity:ledger.write
      Arguments: { step: Before }
      Compensate: { Resource: activity:ledger.erase }
      Next: Tell
    Tell:
      Type: Task
      Resource: event:StoryTold
      Arguments: { title: "{% $states.context.Execution.Input.title %}" }
      Next: Done
    Done: { Type: Succeed }
"#;

/// Only some may.
pub const GUARDED: &str = r#"
name: guarded
access: { start: [ann], view: [ann, bob], signal: [bob], cancel: [ops] }
definition:
  StartAt: Held
  States:
    Held: { Type: Task, Resource: "signal:go", End: true }
"#;

/// All of them.
pub const ALL: &[&str] = &[THREE, CAUGHT, BEATING, SIGNALLED, RESTING, HUMAN, PARENT, EACH, BOTH, TELLING, GUARDED];
