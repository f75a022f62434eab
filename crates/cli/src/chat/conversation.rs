//! What was said so far, in the form a chat request wants.

use serde_json::{Value, json};

/// A system message, if there is one, and turns of user and assistant.
#[derive(Debug, Clone, Default)]
pub(super) struct Conversation {
    system: Option<String>,
    turns: Vec<Value>,
}

impl Conversation {
    pub(super) fn new(system: Option<&str>) -> Self {
        Self { system: system.map(str::to_owned), turns: Vec::new() }
    }

    pub(super) fn push_user(&mut self, text: &str) {
        self.turns.push(json!({"role": "user", "content": text}));
    }

    pub(super) fn push_assistant(&mut self, text: &str) {
        self.turns.push(json!({"role": "assistant", "content": text}));
    }

    /// Take back the question that got no answer.
    pub(super) fn pop_unanswered(&mut self) {
        if self.turns.last().is_some_and(|turn| turn["role"] == "user") {
            self.turns.pop();
        }
    }

    /// Forget the turns, keep the system message.
    pub(super) fn reset(&mut self) {
        self.turns.clear();
    }

    pub(super) fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// An empty text removes the system message.
    pub(super) fn set_system(&mut self, text: &str) {
        self.system = (!text.is_empty()).then(|| text.to_owned());
    }

    pub(super) fn messages(&self) -> Vec<Value> {
        let system = self.system.iter().map(|text| json!({"role": "system", "content": text}));
        system.chain(self.turns.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_message_stands_first_and_survives_a_reset() {
        let mut conversation = Conversation::new(None);
        conversation.push_user("hello");
        conversation.push_assistant("hi");
        conversation.set_system("be brief");
        let roles: Vec<Value> =
            conversation.messages().iter().map(|message| message["role"].clone()).collect();
        assert_eq!(roles, ["system", "user", "assistant"]);
        conversation.reset();
        assert_eq!(conversation.messages().len(), 1);
        conversation.set_system("");
        assert!(conversation.messages().is_empty());
    }

    #[test]
    fn only_a_question_can_be_taken_back() {
        let mut conversation = Conversation::new(None);
        conversation.push_user("one");
        conversation.push_assistant("1");
        conversation.pop_unanswered();
        assert_eq!(conversation.messages().len(), 2);
        conversation.push_user("two");
        conversation.pop_unanswered();
        assert_eq!(conversation.messages().len(), 2);
    }
}
